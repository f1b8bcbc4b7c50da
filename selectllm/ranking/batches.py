"""Ranks the candidates of every query: the best `depth` of each first, then, where they are needed, the next best.

Listwise, a query is one question. Pointwise, each candidate is one, and a query is ranked by the scores: for models
too small to read a list.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Outcome, Ranker, gather_or_raise


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


Ask = Callable[[Sequence[Query]], Awaitable[list[Rank]]]
"""Ranks a batch of queries."""

Spread = Callable[[Ask, Sequence[Sequence[Query]]], Awaitable[list[Rank]]]
"""Has all batches ranked, in whatever way the caller runs things."""


def in_window(concurrency: int) -> Spread:
    """Rank batches in this event loop, a few at a time: a million rows must not become as many waiting coroutines.

    The window is what `concurrency` keeps busy and a batch more: no place stands idle while a batch waits for its end.
    """

    async def spread(ask: Ask, batches: Sequence[Sequence[Query]]) -> list[Rank]:
        window = asyncio.Semaphore(2 + concurrency // max(map(len, batches), default=1))

        async def one(batch: Sequence[Query]) -> list[Rank]:
            async with window:
                return await ask(batch)

        return [rank for ranks in await gather_or_raise(one(batch) for batch in batches) for rank in ranks]

    return spread


async def rank(queries: Sequence[Query], depth: int, asker: Ranker) -> list[Rank]:
    """Rank the best `depth` candidates of each query; a query without a usable answer contributes nothing."""
    ranked = await gather_or_raise(_rank_one(query, depth, asker) for query in queries)
    return [rank for ranks in ranked for rank in ranks]


async def _rank_one(query: Query, depth: int, asker: Ranker) -> list[Rank]:
    if asker.card.mode == "pointwise":
        outcomes = await gather_or_raise(
            asker.score(candidate, f"candidate {candidate.id} of query {query.query_id}")
            for candidate in query.candidates
        )
        placed = sorted((one for one in outcomes if not one.abstained), key=_by_score)
        rows = [(outcome.ids[0], outcome) for outcome in placed]
    elif len(query.candidates) == 1:  # there is nothing to ask about
        rows = [(query.candidates[0].id, Outcome())]
    else:
        name = f"query {query.query_id}" + (f" from rank {query.ranked + 1}" if query.ranked else "")
        outcome = await asker.rank(query.candidates, min(depth, len(query.candidates)), name)
        rows = [(id, outcome) for id in outcome.ids]
    return [
        Rank(query.query_id, query.ranked + place, id, outcome.score, outcome.reply or "")
        for place, (id, outcome) in enumerate(rows, start=1)
    ]


def _by_score(outcome: Outcome) -> tuple[float, str]:
    return -(outcome.score or 0.0), outcome.ids[0]
