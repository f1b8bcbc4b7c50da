"""Ranks the candidates of many queries: the best `depth` of each first, then, where they are needed, the next best.

Pointwise, for models too small to read a list, each candidate is a question, and a query is ranked by the scores.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

from selectllm.ranking.lists import gather_or_raise
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker


@dataclass(frozen=True)
class Query:
    """The candidates of a query that have no rank yet, and how many of its candidates have one."""

    query_id: int
    candidates: tuple[Candidate, ...]
    ranked: int = 0


@dataclass(frozen=True)
class Rank:
    """One row of RANKINGS."""

    query_id: int
    rank: int
    id: str
    score: float | None
    reply: str


@dataclass(frozen=True)
class PassRank:
    """One row of PASSES."""

    query_id: int
    ranked: int
    number: int
    place: int
    id: str


@dataclass(frozen=True)
class Ranks:
    """What queries gave: their ranks and, where each was asked about several times, those of each pass."""

    ranks: list[Rank]
    passes: list[PassRank]

    def __add__(self, other: "Ranks") -> "Ranks":
        return Ranks(self.ranks + other.ranks, self.passes + other.passes)


async def rank_queries(queries: Iterable[Query], depth: int, ranker: Ranker) -> Ranks:
    """Rank the best `depth` candidates of each query; a query without a usable answer contributes nothing.

    A query is taken from the iterable when it is asked about, and let go when it is ranked.
    """
    pending = enumerate(queries)
    ranks: dict[int, Ranks] = {}

    async def work(first: tuple[int, Query]) -> None:
        for place, query in chain((first,), pending):
            ranks[place] = await _rank_query(query, depth, ranker)

    # A few queries are begun at a time: a million must not become as many waiting coroutines.
    await gather_or_raise(work(first) for first in islice(pending, ranker.window))
    in_order = [ranks[place] for place in sorted(ranks)]
    return Ranks(
        [rank for query_ranks in in_order for rank in query_ranks.ranks],
        [rank for query_ranks in in_order for rank in query_ranks.passes],
    )


async def _rank_query(query: Query, depth: int, ranker: Ranker) -> Ranks:
    if ranker.info.mode == "pointwise":
        outcomes = await gather_or_raise(
            ranker.score(candidate, f"candidate {candidate.id} of query {query.query_id}")
            for candidate in query.candidates
        )
        outcomes.sort(key=lambda outcome: (-(outcome.score or 0.0), outcome.ids))
    else:
        name = f"query {query.query_id}" + (f" from rank {query.ranked + 1}" if query.ranked else "")
        outcomes = [await ranker.rank(query.candidates, depth, name)]
    rows = [(id, outcome) for outcome in outcomes for id in outcome.ids]  # none of those that abstained
    ranks = [
        Rank(query.query_id, query.ranked + place, id, outcome.score, outcome.reply or "")
        for place, (id, outcome) in enumerate(rows, start=1)
    ]
    passes = [
        PassRank(query.query_id, query.ranked, number, place, id)
        for outcome in outcomes
        for number, ids in enumerate(outcome.passes, start=1)
        for place, id in enumerate(ids, start=1)
    ]
    return Ranks(ranks, passes)
