"""Divides a pool into small queries: T = ceil(M / K) groups of at most K rows, each to be ranked by the model at once.

The paper's way (arXiv 2401.16553): K-means with K centroids, then equal-size clusters by round-robin, each centroid
taking its nearest row not yet taken; a query holds one member of every cluster. The paper pairs the members in row
order, so that the order of the file leaks into the queries; `matched` pairs them so that they lie far apart.
"""

from itertools import filterfalse
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from selectllm.errors import UsageError
from selectllm.execution import equal_shares
from selectllm.settings import Composition

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

EMPTY: Final = -1
"""Marks a place of a query that no row fills."""

BLOCK: Final = 125
"""Queries matched at a time: a linear assignment costs the cube of this, and larger blocks gain almost nothing."""

BISECT_STEPS: Final = 8
"""Lloyd steps for each halving in `similar`; the cut hardly moves after these."""

FIT_ROWS: Final = 100_000
"""K-means looks at no more rows than this, drawn by the seed: centroids of more hardly differ, and cost minutes."""

DIGITS: Final = 4
"""Digits of a vector that tell texts apart: vectors of one text may differ in their last bits."""


def build_queries(
    vectors: Vectors, size: int, composition: Composition = "matched", seed: int = 0, centroids: Vectors | None = None
) -> Rows:
    """Divide M rows into T = ceil(M / size) queries; every row stands in exactly one place.

    Parameters: `vectors` (M, d) of unit length; `size` K, the most rows a query holds; `composition`, how a query is
    put together; `centroids` (K, d), else K-means finds them (`paper` and `matched` alone use them).
    Returns an int array (T, size) of row numbers, `EMPTY` where a place is empty. With `paper` the last query carries
    the whole shortfall; with the others the sizes of two queries differ by at most one.
    Raises UsageError for an unknown composition, a size below 1, or fewer centroids than places.
    """
    rows = len(vectors)
    if composition not in get_args(Composition):
        raise UsageError(f"unknown composition {composition!r}: choose one of {', '.join(get_args(Composition))}")
    if size < 1:
        raise UsageError(f"a query holds at least one row, not {size}")
    if rows == 0:
        return np.empty((0, size), dtype=np.int64)
    count = -(-rows // size)
    width = width_of(rows, size, composition)
    if composition in ("paper", "matched") and centroids is None:
        centroids = fit_centroids(vectors, width, seed)
    if centroids is not None and len(centroids) < width:
        raise UsageError(f"queries of {width} rows need {width} centroids, not {len(centroids)}")

    rng = np.random.default_rng(seed)
    queries = np.full((count, size), EMPTY, dtype=np.int64)
    if composition == "random":
        _fill(queries, np.array_split(rng.permutation(rows), count))
    elif composition == "similar":
        _fill(queries, _bisect(vectors, np.arange(rows), count, rng))
    else:
        assert centroids is not None
        clusters = balanced_clusters(vectors, centroids[:width])
        if composition == "paper":
            for place, members in enumerate(clusters):
                queries[: len(members), place] = members
        else:
            _match(queries, clusters, vectors, rng)
    return queries


def width_of(rows: int, size: int, composition: Composition) -> int:
    """How many rows the largest query of so many rows holds, which is how many centroids `build_queries` needs."""
    # A pool only just too large for one query fewer is dealt in narrower ones, so that none is left nearly empty.
    return min(size, rows) if composition == "paper" else -(-rows // -(-rows // size))


def sizes(rows: int, size: int, composition: Composition = "matched") -> list[int]:
    """How many rows each query that `build_queries` makes of so many rows holds."""
    count = -(-rows // size)
    if composition == "paper":
        return [min(size, rows - size * number) for number in range(count)]
    return equal_shares(rows, count) if rows else []


def balanced_clusters(vectors: Vectors, centroids: Vectors) -> list[Rows]:
    """Deal all rows to the centroids in turn, each taking its nearest row not yet taken: K clusters of equal size.

    Returns for each centroid its rows in ascending order; sizes differ by at most one, and the first ones are the
    larger. Ties go to the earlier row. O(K·M log M): one stable sort a centroid, and no row is looked at twice.
    """
    taken = bytearray(len(vectors))
    nearest_free = []
    norms = np.einsum("ij,ij->i", vectors, vectors)
    for centroid in centroids:
        distances = norms - 2 * (vectors @ centroid)  # |v|^2 - 2 v·c puts rows in the same order as |v - c|
        order = np.argsort(distances, kind="stable").astype(np.int32)
        nearest_free.append(filterfalse(taken.__getitem__, memoryview(order.data)))
    clusters: list[list[int]] = [[] for _ in centroids]
    for turn in range(len(vectors)):
        place = turn % len(centroids)
        row = next(nearest_free[place])
        taken[row] = True
        clusters[place].append(row)
    return [np.sort(np.array(members, dtype=np.int64)) for members in clusters]


def fit_centroids(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Centroids (count, d) of vectors (M, d) by K-means; all the vectors where there are no more of them."""
    if len(vectors) <= count:
        return vectors
    from sklearn.cluster import KMeans  # half a second to import: only when there is something to cluster

    if len(vectors) > FIT_ROWS:
        vectors = vectors[fit_rows(len(vectors), seed)]
    if not _has_distinct(vectors, count):  # K-means cannot place more centroids than there are points
        distinct = np.unique(vectors, axis=0)
        return distinct[np.arange(count) % len(distinct)]
    # With several threads sums are added in another order on every run: the last bits differ, and a tie may turn.
    with threadpool_limits(1):
        found: Vectors = KMeans(n_clusters=count, random_state=seed, n_init="auto").fit(vectors).cluster_centers_
    return found


def fit_rows(rows: int, seed: int) -> Rows:
    """Of so many rows those that K-means looks at, in ascending order: all, or `FIT_ROWS` that the seed draws."""
    if rows <= FIT_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, FIT_ROWS, replace=False))


def _has_distinct(vectors: Vectors, count: int) -> bool:
    """Whether so many vectors differ by more than their last bits; the first thousands nearly always show it."""
    some = vectors[: 100 * count]
    if len(np.unique(some.round(DIGITS), axis=0)) >= count:
        return True
    return len(np.unique(vectors.round(DIGITS), axis=0)) >= count


def _fill(queries: Rows, groups: list[Rows]) -> None:
    for query, group in zip(queries, groups, strict=True):
        query[: len(group)] = group


def _match(queries: Rows, clusters: list[Rows], vectors: Vectors, rng: np.random.Generator) -> None:
    """Give each query one member of every cluster, so that the members of a query are as unlike as they can be.

    Cluster by cluster, members go to the queries whose present members they resemble least, by a linear assignment
    over blocks of `BLOCK` queries. A cluster that is one short passes over one query, each a different one.
    """
    from scipy.optimize import linear_sum_assignment  # a quarter of a second to import, which a warm run can save

    count = len(queries)
    short = [place for place, members in enumerate(clusters) if len(members) < count]
    passed_over = dict(zip(short, rng.permutation(count)[: len(short)], strict=True))
    sums = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    # Products of such small blocks take far longer with several threads, which mostly wait for each other.
    with threadpool_limits(1):
        for place, members in enumerate(clusters):
            takers = rng.permutation(count)
            if place in passed_over:
                takers = takers[takers != passed_over[place]]
            members = rng.permutation(members)
            for start in range(0, len(members), BLOCK):
                block_takers, block = takers[start : start + BLOCK], members[start : start + BLOCK]
                likeness = sums[block_takers] @ vectors[block].T
                chosen, given = linear_sum_assignment(likeness)
                queries[block_takers[chosen], place] = block[given]
                sums[block_takers[chosen]] += vectors[block[given]]


def _bisect(vectors: Vectors, rows: Rows, count: int, rng: np.random.Generator) -> list[Rows]:
    """Halve the rows by 2-means, cut to size, until `count` groups of neighbours are left, equal to one row."""
    if count == 1:
        return [rows]
    left = count // 2
    each, larger = divmod(len(rows), count)
    cut = left * each + min(left, larger)
    order, _ = halve(vectors[rows], cut, rng)
    return _bisect(vectors, rows[order[:cut]], left, rng) + _bisect(vectors, rows[order[cut:]], count - left, rng)


def halve(vectors: Vectors, cut: int, rng: np.random.Generator) -> tuple[Rows, Vectors]:
    """Order vectors so that the first `cut` and the others are two clusters, by 2-means; and the line between these."""
    pole = vectors[np.argmin(vectors @ vectors[rng.integers(len(vectors))])]
    direction = pole - vectors[np.argmin(vectors @ pole)]
    for _ in range(BISECT_STEPS):
        order = np.argsort(-(vectors @ direction), kind="stable")
        direction = vectors[order[:cut]].mean(axis=0) - vectors[order[cut:]].mean(axis=0)
    return order, direction
