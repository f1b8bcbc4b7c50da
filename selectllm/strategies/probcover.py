"""Rows in whose neighbourhood most other rows lie: dense regions first, one row of each."""

from typing import Final

import numpy as np
import pyarrow as pa

from selectllm.cancellation import raise_if_cancelled
from selectllm.queries import Rows, Vectors, fit_centroids
from selectllm.ranking.cover import Numbers, blocks
from selectllm.ranking.lazy_greedy import LazyGreedy
from selectllm.strategies.points import points_of, preferences_of
from selectllm.strategies.strategy import Choice, Strategy
from selectllm.strategies.stratified import nearest

CLASSES: Final = 20
"""Clusters of K-means that stand for classes; the source takes as many as the task has, and a pool has none."""

PURITY: Final = 0.95
"""The share of balls, one around each row, that hold rows of one cluster alone: the source's value."""

MEASURED: Final = 10_000
"""Rows whose ball is measured; of more, as many are taken, evenly spread over the ids."""


class ProbCover(Strategy):
    """Picks the row whose ball holds most rows that no ball of a chosen row holds yet, again and again.

    All balls have one radius: the largest at which 95 % of them are pure, of one cluster of K-means. The source tries
    radii on a grid; this takes the exact quantile of the rows' distances to the nearest row of another cluster. The
    source's classes are the task's; these are 20 clusters. Excluded rows count as chosen, as labelled ones do there.
    Ties go to the lower id, where the source draws; once all balls hold nothing new, the rest follows by id, which is
    a digest: as good as drawn.
    """

    name = "probcover"
    source = "Yehuda et al., Active Learning Through a Covering Lens (arXiv 2205.11320)"
    needs = frozenset({"embeddings"})
    is_greedy = True

    def prefer(self, choice: Choice) -> pa.Table:
        """Name the wanted rows in the order of picking; the score is how many rows a ball holds that no other held."""
        points, picks = points_of(choice), []
        clusters = nearest(points.vectors, fit_centroids(points.vectors, CLASSES, choice.seed))
        balls = Balls(points.vectors, pure_radius(points.vectors, clusters), points.taken)
        search = LazyGreedy(balls, points.allowed)
        for done in search.measure_all():
            choice.context.progress("gains", done, len(points.allowed))
        for pick in search.picks(choice.wanted):
            picks.append(pick)
            choice.context.progress("preferences", len(picks), choice.wanted)
        return preferences_of([points.ids[row] for row, _ in picks], "ball", [gain for _, gain in picks])


def pure_radius(vectors: Vectors, clusters: Rows, purity: float = PURITY) -> float:
    """The largest radius, squared, at which at least this share of the open balls around rows holds one cluster alone.

    Parameters: `vectors` (M, d); `clusters` (M,). Infinite where there is but one cluster.
    """
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    measured = np.linspace(0, len(vectors) - 1, min(len(vectors), MEASURED)).astype(np.int64)
    other = np.full(len(measured), np.inf)
    for block in blocks(len(measured)):
        raise_if_cancelled()
        rows = measured[block]
        for part in blocks(len(vectors)):
            found = lengths[rows, None] + lengths[part] - 2 * (vectors[rows] @ vectors[part].T)
            found[clusters[rows, None] == clusters[part]] = np.inf
            other[block] = np.minimum(other[block], found.min(axis=1))
    # A ball is pure up to its row's distance to another cluster: all but so many of the nearest ones stay pure.
    impure = int(np.floor((1 - purity) * len(other) + 1e-9))
    return max(float(np.sort(other)[impure]), 0.0)


class Balls:
    """How many rows lie in a ball around a chosen row, as an objective over rows.

    Parameters: `vectors` (M, d); `radius`, squared, which a row in a ball is nearer than; `taken`, the rows that count
    as chosen from the start. A row's own ball always holds it.
    """

    def __init__(self, vectors: Vectors, radius: float, taken: Rows) -> None:
        self._vectors, self._radius = vectors, radius
        self._lengths = np.einsum("ij,ij->i", vectors, vectors)
        self._open = np.arange(len(vectors))  # the rows in no ball
        self._points = vectors
        for block in blocks(len(taken)):
            raise_if_cancelled()
            self._close(taken[block])

    def gains(self, rows: Rows) -> Numbers:
        """How many rows that are in no ball yet lie in the ball of each of these rows."""
        held = np.zeros(len(rows))
        for part in blocks(len(self._open)):
            held += self._is_held(part, rows).sum(axis=0)
        return held

    def add(self, row: int) -> None:
        """Let a row's ball hold rows, too."""
        self._close(np.array([row]))

    def _close(self, rows: Rows) -> None:
        parts = [self._is_held(part, rows).any(axis=1) for part in blocks(len(self._open))]
        is_held = np.concatenate(parts) if parts else np.empty(0, dtype=bool)
        if is_held.any():
            self._open, self._points = self._open[~is_held], self._points[~is_held]

    def _is_held(self, part: slice, rows: Rows) -> np.ndarray:
        found = self._lengths[self._open[part], None] + self._lengths[rows]
        found -= 2 * (self._points[part] @ self._vectors[rows].T)
        is_held: np.ndarray = (found < self._radius) | (self._open[part, None] == rows)
        return is_held
