"""NovelSum: how novel each chosen row is beside the other chosen ones, where rows of crowded regions are farther away.

It is the mean, over all chosen rows, of what `selectllm.ranking.novelty` says of each, with weights 1 / r that are
scaled to add up to 1, as in the authors' program: so a larger selection has no higher value by itself. The strategy
`novelselect` picks by the same. A row is not among its own neighbours, and neither are rows with the same vector.

Source: Yang and others, Measuring Data Diversity for Instruction Tuning, arXiv 2502.17184.
"""

from typing import Final

import numpy as np

from selectllm.cancellation import raise_if_cancelled
from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.measure import Measure, Missing, Values
from selectllm.ranking.cover import blocks
from selectllm.ranking.novelty import weights

CELLS: Final = 2**22
"""Distances that are held, and sorted, at a time."""


def novelsum(measured: Measured) -> Values:
    """NovelSum of the chosen rows, 0 or more. Takes O(M N d) for densities and O(N² (d + log N)) for novelties."""
    count, chosen = len(measured.chosen), measured.chosen_vectors
    if count == 1:
        return {"novelsum": Missing("one chosen row is novel to no other")}
    assert measured.vectors is not None  # it is among the needs
    counts, novelties = np.empty(count), np.empty(count)
    for part in blocks(count):
        raise_if_cancelled()
        counts[part] = weights(chosen[part], measured.vectors)
    by_rank = 1 / np.arange(1, count)
    by_rank /= by_rank.sum()
    for part in blocks(count, max(1, CELLS // count)):
        raise_if_cancelled()
        distances = 1 - chosen[part] @ chosen.T
        rows = np.arange(len(distances))
        distances[rows, part.start + rows] = np.inf  # so the row itself comes last
        others = distances.argsort(axis=1, kind="stable")[:, :-1]
        novelties[part] = (np.take_along_axis(distances, others, axis=1).clip(0) * counts[others]) @ by_rank
    return {"novelsum": float(novelties.mean())}


NOVELSUM: Final = Measure(
    name="novelsum",
    better="higher",
    rewards="Chosen rows that are unlike each other, above all where the pool is crowded",
    gamed_by="Choosing outliers, damaged rows, and rows that the pool has near repeats of: it counts as crowded there",
    values=("novelsum",),
    needs=("vectors",),
    compute=novelsum,
)
