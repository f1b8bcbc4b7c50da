"""How well chosen rows cover all rows: the mean, over all rows, of the highest cosine to a chosen row (0 if below 0).

This is facility location. It is monotone and submodular: a candidate never adds more later than it would now.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from selectllm.cancellation import raise_if_cancelled
from selectllm.queries import Rows, Vectors

Numbers = npt.NDArray[np.float64]

COVERED: Final = 100_000
"""Rows to be covered; of more, as many are taken, evenly spread over the order. All would take hours."""

BLOCK: Final = 1024
"""Rows, and candidates, that are compared at a time: memory grows with rows, and not with rows times candidates."""


class Cover:
    """How well the chosen rows cover each row, and how much each candidate would add to the mean.

    The cover of a row is its highest cosine to a chosen row, and 0 before there is any. Gains are kept exact: a pick
    changes them only by the rows that it covers better, which soon are few.
    """

    def __init__(self, rows: Vectors, candidates: Vectors) -> None:
        self._rows, self._candidates = rows, candidates
        self._cover = np.zeros(len(rows), dtype=np.float32)
        self._sums = np.zeros(len(candidates))
        self._change(1, np.arange(len(rows)), np.full(len(rows), np.inf, dtype=np.float32))

    @property
    def gains(self) -> Numbers:
        """How much the mean cover would grow by each candidate."""
        return self._sums / len(self._rows)

    def add(self, candidate: int) -> None:
        """Let a candidate cover rows, too."""
        cosines = self._rows @ self._candidates[candidate]
        better = np.flatnonzero(cosines > self._cover)
        self._change(-1, better, cosines[better] - self._cover[better])
        self._cover[better] = cosines[better]

    def _change(self, sign: int, rows: Rows, most: Vectors) -> None:
        """Add to the sums, or take from them, what each candidate covers of rows beyond their cover, up to `most`."""
        for part in blocks(len(rows)):
            raise_if_cancelled()
            vectors, cover, limit = self._rows[rows[part]], self._cover[rows[part]], most[part, None]
            for block in blocks(len(self._candidates)):
                growth = growths(vectors, cover, self._candidates[block], limit)
                self._sums[block] += sign * growth.sum(axis=0, dtype=np.float64)


def growths(rows: Vectors, cover: Vectors, candidates: Vectors, most: Vectors | None = None) -> Vectors:
    """How much better (R, C) each of C candidates (C, d) would cover each of R rows (R, d) than `cover` (R,) does.

    None below 0, and none above `most` (R, 1).
    """
    found: Vectors = rows @ candidates.T
    found -= cover[:, None]
    return np.clip(found, 0, most, out=found)


def to_cover(vectors: Vectors, count: int) -> Vectors:
    """The rows to be covered: all of them, or `count`, evenly spread over their order."""
    if len(vectors) <= count:
        return vectors
    return vectors[np.linspace(0, len(vectors) - 1, count).astype(np.int64)]


def blocks(count: int, size: int | None = None) -> Iterator[slice]:
    """So many rows, `size` of them at a time; by default `BLOCK`."""
    size = size or BLOCK
    return (slice(first, first + size) for first in range(0, count, size))
