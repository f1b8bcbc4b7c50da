"""Rows that lie far from all rows chosen before: no row of the pool is left far from a chosen one."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from selectllm.cancellation import raise_if_cancelled
from selectllm.queries import Rows, Vectors
from selectllm.ranking.cover import blocks
from selectllm.strategies.points import points_of, preferences_of
from selectllm.strategies.strategy import Choice, Strategy

DIGITS: Final = 5
"""Digits of a squared distance that count, of which the last are noise: of equally far rows the first is picked."""

Pick = tuple[int, float | None]


class KCenter(Strategy):
    """Picks the row that is farthest from its nearest chosen row, again and again.

    The largest distance of a row to its nearest chosen row is at most twice the least possible (Gonzalez). Excluded
    rows count as chosen, as labelled ones do for Sener and Savarese; without any the first pick is the row nearest to
    the mean, where these take any. They go on to improve the choice by an integer program, which is left out. The rival
    `coreset` of the paper SelectLLM finds clusters by HDBSCAN first and picks centers within them, so it leaves
    outliers out; this picks them early.
    """

    name = "kcenter"
    source = "Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, 1985; Sener & Savarese, Active "
    source += "Learning for Convolutional Neural Networks: A Core-Set Approach (arXiv 1708.00489)"
    needs = frozenset({"embeddings"})
    is_seeded = False
    is_greedy = True

    def prefer(self, choice: Choice) -> pa.Table:
        """Name the wanted rows in the order of picking; the score is the distance to the nearest row chosen before."""
        points, picks = points_of(choice), []
        for pick in k_center(points.vectors, points.allowed, points.taken, choice.wanted):
            picks.append(pick)
            choice.context.progress("preferences", len(picks), choice.wanted)
        return preferences_of([points.ids[row] for row, _ in picks], "distance", [score for _, score in picks])


def k_center(vectors: Vectors, allowed: Rows, taken: Rows, count: int) -> Iterator[Pick]:
    """Pick `count` of the allowed rows, each the one farthest from its nearest center; of equal ones the first.

    Parameters: `vectors` (M, d); `allowed`, the numbers of the rows that may be picked; `taken`, of those that are
    centers from the start. Yields each row and its distance to the nearest center, None where it is the first center.
    """
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    distances = np.full(len(vectors), np.inf, dtype=np.float32)  # squared: |a - b|^2 = |a|^2 + |b|^2 - 2 a·b
    for block in blocks(len(vectors)):
        raise_if_cancelled()
        for centers in (taken[part] for part in blocks(len(taken))):
            found = lengths[block, None] + lengths[centers] - 2 * (vectors[block] @ vectors[centers].T)
            distances[block] = np.minimum(distances[block], found.min(axis=1))
    is_left = np.zeros(len(vectors), dtype=bool)
    is_left[allowed] = True
    for number in range(min(count, len(allowed))):
        raise_if_cancelled()
        is_first = not number and not len(taken)
        far = vectors @ vectors.mean(axis=0) - lengths / 2 if is_first else np.maximum(distances, 0)
        row = int(np.where(is_left, far.round(DIGITS), -np.inf).argmax())
        yield row, None if is_first else float(np.sqrt(max(distances[row], 0)))
        is_left[row] = False
        distances = np.minimum(distances, lengths + lengths[row] - 2 * (vectors @ vectors[row]))
