"""Chooses rows that are rated well and together cover the others: a greedy maximum of rating and facility location.

What is maximised is (1 - D) * R + D * C, where D is the diversity, from 0 to 1. R is the mean rating of the chosen
rows, where ratings are scaled to 0..1 over the rows that may be picked. C is how well the chosen rows cover all rows:
the mean, over all rows, of the highest cosine to a chosen row, where a cosine below 0 counts as 0. Both are means from
0 to 1, so neither outweighs the other by the size of the pool or of the budget. Rows are picked one by one, each the
one that adds most. The sum is monotone and submodular, so this reaches at least 1 - 1/e (63 %) of the best choice among
the rows that may be picked.

Sources: Nemhauser, Wolsey and Fisher, An Analysis of Approximations for Maximizing Submodular Set Functions, 1978; for
gains that are computed anew only when they matter, Minoux, Accelerated Greedy Algorithms, 1978.
"""

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selectllm.cancellation import raise_if_cancelled
from selectllm.queries import Vectors
from selectllm.ranking.near_duplicates import PassedOver, Picks, choose_distinct, nearest_chosen

Numbers = npt.NDArray[np.float64]

CANDIDATES: Final = 10
"""Rows that may be picked, for each row of the budget: the first of the order. All rows are to be covered."""

DIGITS: Final = 6
"""Digits of a gain, times the budget, that count: of equal gains the row that comes first is picked."""

ROWS: Final = 4096
"""Rows whose cover is computed at a time: memory grows with the rows alone, and not with rows times candidates."""

TOGETHER: Final = 512
"""Candidates whose first gains are computed at a time."""

AGAIN: Final = 32
"""Candidates whose gains are computed anew at a time: one product of matrices is faster than many of vectors."""


@dataclass(frozen=True)
class Aim:
    """What is maximised: the diversity D, and how many rows are to be chosen."""

    diversity: float
    budget: int


class _Cover:
    """How well the chosen rows cover each row: its highest cosine to one of them, and 0 before there is any."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._highest = np.zeros(len(vectors), dtype=np.float32)

    def gains(self, rows: list[int]) -> Numbers:
        """How much the mean cover would grow by each of these rows."""
        sums = np.zeros(len(rows))
        for first in range(0, len(self._vectors), ROWS):
            part = slice(first, first + ROWS)
            growth = self._vectors[part] @ self._vectors[rows].T
            growth -= self._highest[part, None]
            sums += np.maximum(growth, 0, out=growth).sum(axis=0, dtype=np.float64)
        return sums / len(self._vectors)

    def add(self, row: int) -> None:
        np.maximum(self._highest, self._vectors @ self._vectors[row], out=self._highest)


def choose_diverse(vectors: Vectors, scores: Numbers | None, aim: Aim, limit: float | None = None) -> Picks:
    """Pick rows greedily by rating and cover together; of equal gains the row that comes first.

    Parameters: `vectors` (M, d) of unit length, the best row first; `scores` (M,), None where not all rows have one;
    `limit`, the cosine from which on a row that would be picked next is passed over instead, since it is so near to a
    chosen one. Only the first 10 * budget rows may be picked. Where too many of these are passed over, the rest of the
    rows follows in its order. Returns fewer rows than the budget where no more are left.
    """
    candidates = min(len(vectors), CANDIDATES * aim.budget)
    ratings = scaled(None if scores is None else scores[:candidates], candidates)
    cover, picks, share = _Cover(vectors), Picks(), aim.diversity * aim.budget

    def gains(rows: list[int]) -> list[float]:
        found: list[float] = ((1 - aim.diversity) * ratings[rows] + share * cover.gains(rows)).round(DIGITS).tolist()
        return found

    # A gain shrinks as rows are picked: one that was computed earlier is an upper bound. Each entry says when it was.
    heap: list[tuple[float, int, int]] = []
    for first in range(0, candidates, TOGETHER):
        raise_if_cancelled()
        rows = list(range(first, min(first + TOGETHER, candidates)))
        heap += [(-gain, row, 0) for gain, row in zip(gains(rows), rows, strict=True)]
    heapq.heapify(heap)
    while heap and len(picks.chosen) < aim.budget:
        raise_if_cancelled()
        _, row, known = heapq.heappop(heap)
        if known < len(picks.chosen):
            rows = [row, *_outdated(heap, len(picks.chosen))]
            for gain, again in zip(gains(rows), rows, strict=True):
                heapq.heappush(heap, (-gain, again, len(picks.chosen)))
        elif near := _near(vectors, picks, row, limit):
            picks.passed_over.append(near)
        else:
            picks.chosen.append(row)
            cover.add(row)
    if limit is None:
        return picks
    return choose_distinct(vectors, aim.budget, limit, picks, start=candidates)


def scaled(scores: Numbers | None, count: int) -> Numbers:
    """Ratings of rows from 0 to 1, the best row first: their scores, scaled; by their places where scores do not fall.

    Parameters: `scores` (count,), None where not all rows have one. Scores by which the rows do not stand in order, as
    those of rows that are ranked in tiers, do not say which row is better.
    """
    if scores is None or (np.diff(scores) > 0).any():
        scores = -np.arange(count, dtype=np.float64)
    lowest, highest = scores.min(initial=np.inf), scores.max(initial=-np.inf)
    return (scores - lowest) / (highest - lowest) if highest > lowest else np.ones(count)


def _outdated(heap: list[tuple[float, int, int]], now: int) -> list[int]:
    """The rows of the next entries, up to the first that is of now; they leave the heap."""
    rows: list[int] = []
    while heap and len(rows) < AGAIN - 1 and heap[0][2] < now:
        rows.append(heapq.heappop(heap)[1])
    return rows


def _near(vectors: Vectors, picks: Picks, row: int, limit: float | None) -> PassedOver | None:
    if limit is None:
        return None
    near, cosines = nearest_chosen(vectors, picks.chosen, vectors[row : row + 1])
    return PassedOver(row, int(near[0]), float(cosines[0])) if cosines[0] >= limit else None
