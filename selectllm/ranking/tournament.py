"""Puts the rows of one level in order, when the budget takes some of them and not others.

The rows meet in queries of the usual size, ranked whole; the winner of each goes on to the next round, until one query
decides. So the model itself orders them, at about T/(K-1) questions for T rows: 8 % more at K = 14.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Outcome, Ranker, gather_or_raise
from selectllm.store import digest


@dataclass(frozen=True)
class TournamentRank:
    """Where a row ended: the last round it was in, and its rank there; no rank where its query abstained."""

    place: int
    id: str
    round: int
    rank: int | None
    reply: str | None


def questions(rows: int, size: int) -> list[int]:
    """How many questions each round asks when `rows` rows meet in queries of `size` (2 or more)."""
    asked = []
    while rows > 1:
        queries = math.ceil(rows / size)
        asked.append(min(queries, rows // 2))  # a row that is alone in its query goes on unasked
        rows = queries
    return asked


async def play(candidates: Sequence[Candidate], size: int, asker: Ranker, seed: int) -> list[TournamentRank]:
    """Play to the end, and return every row once, the best first.

    The order is: the round reached, the later the better; the rank in that round's query; the final place of that
    query's winner; the id. Rows of a query that abstained go no further and come last in their round.
    """
    still_in, number = sorted(candidates, key=lambda candidate: candidate.id), 0
    rounds: list[list[tuple[list[Candidate], Outcome]]] = []
    while still_in:
        number += 1
        groups = _draw(still_in, size, seed, number)
        outcomes = await gather_or_raise(
            _meet(group, asker, f"query {place} of round {number}") for place, group in enumerate(groups)
        )
        rounds.append(list(zip(groups, outcomes, strict=True)))
        by_id = {candidate.id: candidate for candidate in still_in}
        winners = [by_id[outcome.ids[0]] for outcome in outcomes if not outcome.abstained]
        still_in = winners if len(groups) > 1 else []

    places: dict[str, int] = {}
    standings: list[TournamentRank] = []
    for number, played in reversed(list(enumerate(rounds, start=1))):
        out = [row for group, outcome in played for row in _rows(group, outcome, number) if row.id not in places]
        winner_of = {row.id: outcome.ids[0] for group, outcome in played if outcome.ids for row in group}

        def order(row: TournamentRank, winner_of: dict[str, str] = winner_of) -> tuple[float, float, str]:
            """Among those who left in one round; the final's own winner has no place yet, and needs none."""
            rank = math.inf if row.rank is None else row.rank
            return rank, places.get(winner_of.get(row.id, ""), math.inf), row.id

        for row in sorted(out, key=order):
            standings.append(TournamentRank(len(standings) + 1, row.id, row.round, row.rank, row.reply))
            places[row.id] = len(standings)
    return standings


def _draw(candidates: Sequence[Candidate], size: int, seed: int, number: int) -> list[list[Candidate]]:
    """Deal the rows to as few queries as hold them, of even size, by a shuffle of the seed and the round."""
    rng = np.random.default_rng(int(digest("tournament", seed, number, [one.id for one in candidates]), 16))
    groups = np.array_split(rng.permutation(len(candidates)), math.ceil(len(candidates) / size))
    return [[candidates[place] for place in group] for group in groups]


async def _meet(group: list[Candidate], asker: Ranker, name: str) -> Outcome:
    if len(group) == 1:
        return Outcome((group[0].id,))
    return await asker.rank(group, len(group), name)


def _rows(group: list[Candidate], outcome: Outcome, number: int) -> list[TournamentRank]:
    ranks = {id: rank for rank, id in enumerate(outcome.ids, start=1)}
    return [TournamentRank(0, one.id, number, ranks.get(one.id), outcome.reply) for one in group]
