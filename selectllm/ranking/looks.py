"""Further looks: which rows are asked about again before the budget cuts the ratings, and together with which others.

A question is worth most about rows that it may move across the cut. Few rounds are enough, and the first is the
largest: what it settles need not be asked about again. Rows are dealt anew each time, since asking about the same
groups again tells least.

Source: Frazier, Powell and Dayanik, A Knowledge-Gradient Policy for Sequential Information Collection, 2008. There one
question is asked at a time.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Final

import numpy as np

from selectllm.ranking.ratings import NOISE, Numbers, Ratings, Rows, chances_of_error

SHARES: Final = (0.5, 0.25, 0.15, 0.1)
"""What each round asks of all further questions. Equal rounds found 1 % fewer of the best rows."""

_ROUNDED: Final = 1e-9  # 0.9 * 10 is more than 9

DOUBT: Final = 0.05
"""The chance of being on the wrong side of the cut up to which a row is settled."""


def questions_by_round(total: int) -> list[int]:
    """How many questions each round may ask, of `total` in all."""
    ends = [math.ceil(total * sum(SHARES[: number + 1]) - _ROUNDED) for number in range(len(SHARES))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def rows_in_doubt(rated: Ratings, budget: int, size: int) -> Rows:
    """The rows whose side of the cut is not settled, those first that a question of `size` rows tells most about."""
    doubtful = np.flatnonzero(chances_of_error(rated, budget) > DOUBT)
    if not len(doubtful):
        return doubtful
    order = np.argsort(-_gains(rated, budget, size)[doubtful], kind="stable")
    return doubtful[order]


def deal(clusters: Rows, met: Sequence[Collection[int]], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Deal n rows into queries of at most `size`, diverse by cluster, in which few have met: none, where it is easy.

    Parameters: `clusters` (n,), which cluster each row is of; `met`, of each row the questions that have shown it: two
    rows that share one have met. Each row in turn goes to the next query with room where it meets no row again, or
    else to the next with room. Returns the rows' numbers, from 0; the sizes of two queries differ by at most one.
    """
    count = -(-len(clusters) // size)
    order = np.lexsort((rng.permutation(len(clusters)), clusters))  # the rows of a cluster go to queries in turn
    room = [len(part) for part in np.array_split(order, count)]
    queries: list[list[int]] = [[] for _ in range(count)]
    shown: list[set[int]] = [set() for _ in range(count)]
    for turn, row in enumerate(order.tolist()):
        with_room = (query for query in _in_turn(turn, count) if len(queries[query]) < room[query])
        first = next(with_room)
        others = (query for query in chain([first], with_room) if shown[query].isdisjoint(met[row]))
        query = next(others, first)
        queries[query].append(row)
        shown[query].update(met[row])
    return queries


def _in_turn(turn: int, count: int) -> Iterator[int]:
    return ((turn + step) % count for step in range(count))


def _gains(rated: Ratings, budget: int, size: int) -> Numbers:
    """How much worth a question about each row is expected to win, by the row's crossing the cut."""
    from scipy.special import ndtr  # a sixth of a second to import, which a warm run can save

    ordered = np.sort(rated.ratings)[::-1]
    cut = (ordered[budget - 1] + ordered[budget]) / 2
    before = rated.spreads**2
    moves = np.sqrt(before - 1 / (1 / before + _information(size)))  # the spread of where the rating will be
    away = np.abs(rated.ratings - cut) / moves
    density = np.exp(-(away**2) / 2) / np.sqrt(2 * np.pi)
    gains: Numbers = moves * (density - away * ndtr(-away))
    return gains


def _information(size: int) -> float:
    """What a full ranking of `size` equal rows adds at each to the bend of the log-likelihood."""
    left = np.arange(size, 1, -1)
    return float(((left - 1) / left).sum() / size / NOISE**2)
