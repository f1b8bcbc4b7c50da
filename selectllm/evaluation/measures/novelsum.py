"""NovelSum: how novel each chosen row is among the chosen ones, where crowded regions of the pool count as wider.

The novelty of a row i is the mean of its distances to the other chosen rows, each with the weight 1 / r^a, where r is
its place among them, the nearest first; times the density of the pool around i to the power b. The density is 1 over
the mean distance of the k nearest rows of the pool. NovelSum is the mean of the novelties of all chosen rows.
Distances are 1 - cosine.

Source: Yang and others, Measuring Data Diversity for Instruction Tuning, arXiv 2502.17184, with a = 1, b = 0.5, k = 10,
as its authors recommend. As in the authors' program, weights add up to 1 and the density is that of row i. Here a row
is not among its own neighbours, there or in the pool, and neither are rows with the same vector in the pool.
"""

from typing import Final

import numpy as np

from selectllm.evaluation.measured import BLOCK, Measured, Numbers, blocks
from selectllm.evaluation.measures.measure import Measure, Missing, Values

PROXIMITY_POWER: Final = 1.0  # a
DENSITY_POWER: Final = 0.5  # b
NEIGHBOURS: Final = 10  # k

SAME: Final = 1e-5
"""A distance from which on two vectors are different: those of one text may differ in their last bits."""


def novelsum(measured: Measured) -> Values:
    """NovelSum of the chosen rows, 0 or more. Takes O(M N d) for densities and O(N² (d + log N)) for novelties."""
    count = len(measured.chosen)
    if count == 1:
        return {"novelsum": Missing("one chosen row is novel to no other")}
    weights = np.arange(1, count, dtype=np.float64) ** -PROXIMITY_POWER
    weights /= weights.sum()
    novelties = np.empty(count)
    for part in blocks(count):
        distances = 1 - measured.chosen_vectors[part] @ measured.chosen_vectors.T
        places = np.arange(len(distances))
        distances[places, part.start + places] = np.inf
        distances.sort(axis=1)
        novelties[part] = distances[:, :-1].clip(0) @ weights
    return {"novelsum": float((novelties * densities(measured) ** DENSITY_POWER).mean())}


def densities(measured: Measured) -> Numbers:
    """How crowded the pool is around each chosen row (N,): 1 over the mean distance of its nearest other rows.

    Where there are no other rows it is 1, which changes nothing.
    """
    assert measured.vectors is not None
    found = np.ones(len(measured.chosen))
    for part in blocks(len(found)):
        nearest = np.full((len(found[part]), NEIGHBOURS), np.inf, dtype=np.float32)
        for first in range(0, len(measured.vectors), 8 * BLOCK):
            distances = 1 - measured.chosen_vectors[part] @ measured.vectors[first : first + 8 * BLOCK].T
            distances[distances < SAME] = np.inf
            nearest = np.partition(np.concatenate([nearest, distances], axis=1), NEIGHBOURS - 1, axis=1)
            nearest = nearest[:, :NEIGHBOURS]
        counts = np.isfinite(nearest).sum(axis=1)
        sums = np.where(np.isfinite(nearest), nearest, 0).sum(axis=1, dtype=np.float64)
        found[part] = np.divide(counts, sums, out=np.ones(len(counts)), where=counts > 0)
    return found


NOVELSUM: Final = Measure(
    name="novelsum",
    better="higher",
    rewards="Chosen rows that are unlike each other, above all where the pool is crowded",
    gamed_by="Choosing outliers, damaged rows, and rows that the pool has near repeats of: it counts as crowded there",
    values=("novelsum",),
    needs=("vectors",),
    compute=novelsum,
)
