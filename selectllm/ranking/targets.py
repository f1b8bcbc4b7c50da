"""Which rows of a pool are near to given examples, and a shortlist of them in which every example has its share.

The examples take turns, in the order of their file. Each takes the row that is nearest to it among those that none has
taken yet. So a dense part of the pool, near to one example, does not fill the shortlist.

Source: Xia et al., LESS: Selecting Influential Data for Targeted Instruction Tuning (arXiv 2402.04333), for choosing by
likeness to a few examples; there gradients are compared, and a row counts by its best likeness to a task.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selectllm.cancellation import raise_if_cancelled
from selectllm.queries import Rows, Vectors
from selectllm.ranking.near_duplicates import rounded

Numbers = npt.NDArray[np.float64]

NEAREST: Final = 3
"""Examples whose cosines count for a row's score: by one alone, an odd example would decide."""

BLOCK: Final = 1024
"""Rows that are compared with the examples at a time."""

EXAMPLES_BLOCK: Final = 4096
"""Examples that a block is compared with at a time."""

CELLS: Final = 2**24
"""Cosines that are held at a time while examples look for their nearest rows: 128 MiB, and as much for what is kept."""

FEWEST: Final = 64
"""The fewest rows that an example looks ahead."""

DIGITS: Final = 6
"""Digits of a score that count."""


@dataclass(frozen=True)
class Nearness:
    """Of each row (M,) its nearest example, the cosine to it, and the score: the mean of the best NEAREST cosines."""

    examples: Rows
    cosines: Numbers
    scores: Numbers


@dataclass(frozen=True)
class Dealt:
    """The rows of a shortlist in the order in which they were taken, the example that took each, and their cosine."""

    rows: list[int]
    examples: list[int]
    cosines: list[float]


def nearness(vectors: Vectors, examples: Vectors) -> Nearness:
    """Compare rows (M, d) with examples (E, d), of unit length; of equally near examples the first is named."""
    rows, keep = len(vectors), min(NEAREST, len(examples))
    nearest, best = np.zeros(rows, dtype=np.int64), np.full((rows, keep), -2.0)
    for part in _blocks(rows, BLOCK):
        raise_if_cancelled()
        for others in _blocks(len(examples), EXAMPLES_BLOCK):
            cosines = rounded(vectors[part] @ examples[others].T)
            first = cosines.argmax(axis=1)
            is_nearer = cosines[np.arange(len(cosines)), first] > best[part].max(axis=1)
            nearest[part][is_nearer] = first[is_nearer] + others.start
            both = np.concatenate([best[part], cosines], axis=1)
            best[part] = np.partition(both, both.shape[1] - keep, axis=1)[:, -keep:]
    return Nearness(nearest, best.max(axis=1), best.mean(axis=1).round(DIGITS))


def deal(vectors: Vectors, examples: Vectors, count: int) -> Dealt:
    """Let the examples (E, d) take `count` of the rows (M, d) in turn; of equally near ones that which stands first."""
    takers = _Takers(vectors, examples[:count], count)
    dealt = Dealt([], [], [])
    for turn in range(count):
        example = turn % len(takers.examples)
        row, cosine = takers.take(example)
        dealt.rows.append(row)
        dealt.examples.append(example)
        dealt.cosines.append(cosine)
    return dealt


class _Takers:
    """The examples, each with the rows that are nearest to it: as many as fit, and the next ones when these are taken.

    Memory does not grow with examples times rows.
    """

    def __init__(self, vectors: Vectors, examples: Vectors, count: int) -> None:
        self.examples = examples
        self._vectors, self._is_taken = vectors, np.zeros(len(vectors), dtype=bool)
        self._ahead = max(FEWEST, min(count, CELLS // len(examples)))  # of more than are dealt none is needed
        self._lists: list[_Nearest] = []
        for part in _blocks(len(examples), max(1, CELLS // len(vectors))):
            self._lists += self._nearest(examples[part])

    def take(self, example: int) -> tuple[int, float]:
        """The row that is nearest to an example among those that are not taken, and their cosine."""
        while True:
            rows, cosines = self._lists[example]
            is_open = ~self._is_taken[rows]
            if is_open.any():
                first = int(is_open.argmax())
                self._lists[example] = rows[first + 1 :], cosines[first + 1 :]
                self._is_taken[rows[first]] = True
                return int(rows[first]), round(float(cosines[first]), DIGITS)
            (self._lists[example],) = self._nearest(self.examples[example : example + 1])

    def _nearest(self, examples: Vectors) -> list["_Nearest"]:
        """Of each example the rows that are nearest to it among those that are not taken."""
        raise_if_cancelled()
        cosines = rounded(examples @ self._vectors.T)
        cosines[:, self._is_taken] = -np.inf
        ahead = min(self._ahead, len(self._is_taken) - int(self._is_taken.sum()))
        return [_first(line, ahead) for line in cosines]


_Nearest = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""Rows, the nearest first, and their cosines."""


def _first(cosines: Numbers, count: int) -> _Nearest:
    last = np.partition(cosines, len(cosines) - count)[len(cosines) - count]
    nearer = np.flatnonzero(cosines > last)
    rows = np.concatenate([nearer, np.flatnonzero(cosines == last)[: count - len(nearer)]])
    rows = rows[np.lexsort((rows, -cosines[rows]))]
    return rows.astype(np.int32), cosines[rows].astype(np.float32)


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, count)) for first in range(0, count, size))
