"""Puts the rows of one tier in order, when the budget takes some of them and not others.

The rows are ranked whole in queries of the usual size; the winner of each goes on to the next round, until one query
decides. So the model itself orders them, at about T/(K-1) questions for T rows: 8 % more at K = 14.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selectllm.ranking.lists import Outcome, gather_or_raise
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker
from selectllm.store import digest

Round = list[tuple[list[Candidate], Outcome]]  # its queries, each with what became of it


@dataclass(frozen=True)
class TournamentRank:
    """Where a row ended: the last round it was in, and its rank there; no rank where its query abstained."""

    place: int
    id: str
    round: int
    rank: int | None
    reply: str | None


def question_counts(rows: int, size: int) -> list[int]:
    """How many questions each round asks about `rows` rows in queries of `size` (2 or more)."""
    counts = []
    while rows > 1:
        queries = math.ceil(rows / size)
        counts.append(min(queries, rows // 2))  # a row that is alone in its query goes on unasked
        rows = queries
    return counts


async def run_tournament(candidates: Sequence[Candidate], size: int, ranker: Ranker, seed: int) -> list[TournamentRank]:
    """Ask round by round until one query decides, and return every row once, the best first.

    The order is: the round reached, the later the better; the rank in that round's query; the final place of that
    query's winner; the id. A query without a usable answer is halved; rows that no answer places go no further, and
    come last in their round.
    """
    remaining, number = sorted(candidates, key=lambda candidate: candidate.id), 0
    rounds: list[Round] = []
    while remaining:
        number += 1
        groups = _draw(remaining, size, seed, number)
        outcomes = await gather_or_raise(
            ranker.rank(group, len(group), f"query {index} of round {number}", halves=True)
            for index, group in enumerate(groups)
        )
        rounds.append(list(zip(groups, outcomes, strict=True)))
        by_id = {candidate.id: candidate for candidate in remaining}
        winners = [by_id[outcome.ids[0]] for outcome in outcomes if not outcome.abstained]
        remaining = winners if len(groups) > 1 else []
    return _final_order(rounds)


def _final_order(rounds: list[Round]) -> list[TournamentRank]:
    places: dict[str, int] = {}
    ranks: list[TournamentRank] = []
    for number, queries in reversed(list(enumerate(rounds, start=1))):
        left = []  # the rows that left in this round, as they are ordered
        for group, outcome in queries:
            rank_of = {id: rank for rank, id in enumerate(outcome.ids, start=1)}
            # The final's own winner has no place yet, and needs none.
            winner_place = places.get(outcome.ids[0], math.inf) if outcome.ids else math.inf
            ids = [candidate.id for candidate in group if candidate.id not in places]
            left += [(rank_of.get(id, math.inf), winner_place, id, outcome.reply) for id in ids]
        for rank, _, id, reply in sorted(left):
            places[id] = len(places) + 1
            ranks.append(TournamentRank(places[id], id, number, None if rank == math.inf else int(rank), reply))
    return ranks


def _draw(candidates: Sequence[Candidate], size: int, seed: int, number: int) -> list[list[Candidate]]:
    """Deal the rows to as few queries as hold them, of even size, by a shuffle of the seed and the round."""
    ids = [candidate.id for candidate in candidates]
    rng = np.random.default_rng(int(digest("tournament", seed, number, ids), 16))
    groups = np.array_split(rng.permutation(len(candidates)), math.ceil(len(candidates) / size))
    return [[candidates[row] for row in group] for group in groups]
