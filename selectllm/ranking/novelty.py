"""How novel rows are beside chosen ones: the summands of the diversity measure NovelSum, which is their mean.

The novelty of x is the sum, over chosen rows y other than x, of d(x, y) s(y)^b / r(y): d is the cosine distance, s the
density around y, r the rank of y among these rows by its distance to x, from 1. The density is 1 over the mean distance
to the nearest rows of the pool.

Source: Yang et al., Measuring Data Diversity for Instruction Tuning (arXiv 2502.17184), with the values that it
recommends: power 1 of ranks, 0.5 of densities, 10 neighbours. This is its formula. Its programs differ from that, and
from each other: the measure takes the density around x instead, the search the sum of both.
"""

from typing import Final

import numpy as np

from selectllm.queries import Rows, Vectors
from selectllm.ranking.cover import Numbers, blocks

NEIGHBOURS: Final = 10
"""K: the nearest rows by which the density around a row is measured."""

DENSITY_POWER: Final = 0.5
"""b: the power of the density."""

RANKED: Final = 128
"""Chosen rows whose ranks are kept for each row, so that memory does not grow with the budget."""

SMALLEST: Final = 1e-5
"""Rows that are nearer than this repeat one another, and are no neighbours: the density would be infinite."""


def density(vectors: Vectors, reference: Vectors) -> Vectors:
    """One over the mean cosine distance of each row (B, d) to its nearest neighbours in a reference (M, d).

    1 where all rows of the reference repeat it.
    """
    nearest = np.full((len(vectors), NEIGHBOURS), np.inf, dtype=np.float32)
    for part in blocks(len(reference)):
        found = 1 - vectors @ reference[part].T
        found[found < SMALLEST] = np.inf
        both = np.concatenate([nearest, found], axis=1)
        nearest = np.partition(both, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    is_there = np.isfinite(nearest)
    sums, counts = np.where(is_there, nearest, 0).sum(axis=1), is_there.sum(axis=1)
    found = np.ones(len(vectors), dtype=np.float32)
    np.divide(counts, sums, out=found, where=counts > 0, casting="same_kind")
    return found


def weights(vectors: Vectors, reference: Vectors) -> Vectors:
    """What distances to each row (B, d) count, by the density of the reference (M, d) around it."""
    found: Vectors = density(vectors, reference) ** DENSITY_POWER
    return found


class Novelty:
    """The novelty of all rows, kept while rows are chosen.

    It is exact up to 128 chosen rows. Of more, the 128 nearest to each row count exactly, and the others by the mean of
    their distances times densities, at all the ranks that they have. Parameters: `vectors` (M, d) of unit length;
    `weights` (M,), as `weights` gives them.
    """

    def __init__(self, vectors: Vectors, weights: Vectors) -> None:
        self._vectors, self._weights = vectors, weights
        self._count = 0
        shape = (len(vectors), RANKED)
        self._distances = np.full(shape, np.inf, dtype=np.float32)  # to the nearest chosen rows, in their order
        self._terms = np.zeros(shape, dtype=np.float32)  # these, times the weights
        self._others = np.zeros(len(vectors))  # the sum of the terms of all others

    def add(self, row: int) -> None:
        """Let a row count as chosen; of two that are equally far the one that was chosen first has the lower rank."""
        distances = np.maximum(1 - self._vectors @ self._vectors[row], 0)
        terms = distances * self._weights[row]
        is_near = distances < self._distances[:, -1]
        self._others[~is_near] += terms[~is_near]
        near = np.flatnonzero(is_near)
        for block in blocks(len(near)):
            self._insert(near[block], distances[near[block]], terms[near[block]])
        self._count += 1

    def values(self) -> Numbers:
        """The novelty (M,) of each row."""
        ranks = 1 / np.arange(1, RANKED + 1)
        found: Numbers = (self._terms @ ranks.astype(np.float32)).astype(np.float64)
        others = self._count - RANKED
        if others > 0:
            found += self._others / others * (1 / np.arange(RANKED + 1, self._count + 1)).sum()
        return found

    def _insert(self, rows: Rows, distances: Vectors, terms: Vectors) -> None:
        known, weighted = self._distances[rows], self._terms[rows]
        self._others[rows] += weighted[:, -1]
        place = (known <= distances[:, None]).sum(axis=1)[:, None]
        column = np.arange(RANKED)
        for kept, values, new in ((self._distances, known, distances), (self._terms, weighted, terms)):
            moved = np.where(column > place, np.roll(values, 1, axis=1), values)
            kept[rows] = np.where(column == place, new[:, None], moved)
