"""Cluster entropy: how evenly the chosen rows are spread over the clusters of the pool."""

from math import isqrt, log
from typing import Final

import numpy as np
from scipy.special import entr

from selectllm.evaluation.measured import Measured, blocks
from selectllm.evaluation.measures.measure import Measure, Missing, Values
from selectllm.queries import Rows, Vectors, fit_centroids

CLUSTERS: Final = 100
"""Clusters of a pool; of a smaller one, the root of the number of its rows."""

FIT_ROWS: Final = 10_000
"""Rows that the clusters are found by, drawn by the seed: more change little, and take minutes."""


def cluster_rows(vectors: Vectors, seed: int) -> Rows:
    """The number of the cluster of each row (M,), by K-means over vectors (M, d), 100 clusters or fewer."""
    count = min(CLUSTERS, isqrt(len(vectors)))
    sample = vectors
    if len(vectors) > FIT_ROWS:
        sample = vectors[np.sort(np.random.default_rng(seed).choice(len(vectors), FIT_ROWS, replace=False))]
    centroids = fit_centroids(sample, count, seed)
    halves = np.einsum("ij,ij->i", centroids, centroids) / 2
    return np.concatenate([(vectors[part] @ centroids.T - halves).argmax(axis=1) for part in blocks(len(vectors))])


def cluster_entropy(measured: Measured) -> Values:
    """The entropy of the chosen rows' clusters over the highest that so many clusters allow, 0 to 1.

    It is 1 where each cluster of the pool gives equally many rows. Fewer rows than clusters cannot reach 1.
    """
    clusters = measured.clusters
    if clusters is None:
        assert measured.vectors is not None
        clusters = cluster_rows(measured.vectors, measured.seed)
    count = len(np.unique(clusters))
    if count == 1:
        return {"cluster_entropy": Missing("all rows of the pool are in one cluster")}
    shares = np.unique(clusters[measured.chosen], return_counts=True)[1] / len(measured.chosen)
    return {"cluster_entropy": float(entr(shares).sum() / log(count))}


CLUSTER_ENTROPY: Final = Measure(
    name="cluster_entropy",
    better="higher",
    rewards="Chosen rows from all clusters of the pool, equally many from each",
    gamed_by="Any rows, as long as they are equally many from each cluster: one of damaged rows counts like the others",
    values=("cluster_entropy",),
    needs=("vectors",),
    compute=cluster_entropy,
)
