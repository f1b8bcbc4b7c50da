"""Rows of every cluster by its share of the pool: random rows, and less luck."""

from typing import Final

import numpy as np
import pyarrow as pa

from selectllm.cancellation import raise_if_cancelled
from selectllm.queries import Rows, Vectors, fit_centroids
from selectllm.ranking.cover import blocks
from selectllm.strategies.points import draws, points_of, preferences_of
from selectllm.strategies.strategy import Choice, Strategy

CLUSTERS: Final = 100
"""Clusters of K-means; fewer where the pool has fewer rows."""


class Stratified(Strategy):
    """Draws rows at random within the clusters of K-means, from each as many as its share of the pool.

    The first N rows hold a cluster of n of the M rows N·n/M times, give or take one: for every N, as the rows of all
    clusters stand in one order. Neyman's strata are known beforehand; these are clusters of the vectors, so they differ
    by the seed. Excluded rows keep their places and are passed over: the next run of a history goes on in the order.
    """

    name = "stratified"
    source = "Neyman, On the Two Different Aspects of the Representative Method, 1934: proportional allocation"
    needs = frozenset({"embeddings"})

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all rows: the i-th row that is drawn of a cluster of n stands at (i - 1/2) / n of the order."""
        points = points_of(choice)
        clusters = nearest(points.vectors, fit_centroids(points.vectors, CLUSTERS, choice.seed))
        drawn = draws(points.ids, choice.seed)
        places = in_strata(clusters, np.array(drawn))
        order = sorted(range(len(drawn)), key=lambda row: (places[row], drawn[row], points.ids[row]))
        return preferences_of([points.ids[row] for row in order], "cluster")


def nearest(vectors: Vectors, centroids: Vectors) -> Rows:
    """The number of the nearest of K centroids (K, d) for each of M vectors (M, d); of equally near ones the first."""
    found = np.empty(len(vectors), dtype=np.int64)
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    for block in blocks(len(vectors)):
        raise_if_cancelled()
        found[block] = (lengths - 2 * (vectors[block] @ centroids.T)).argmin(axis=1)
    return found


def in_strata(clusters: Rows, drawn: np.ndarray) -> np.ndarray:
    """Where each of M rows stands, from 0 to 1: rows of one cluster, in the order drawn, at equal distances."""
    places = np.empty(len(clusters))
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        members = members[np.argsort(drawn[members], kind="stable")]
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return places
