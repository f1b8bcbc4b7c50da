"""Measures how queries are formed: speed of the assignment, and how diverse each composition's queries are.

    python benchmarks/queries.py [VECTORS.npz]

VECTORS.npz holds `embeddings` (M, d); without it, vectors are drawn around 60 topics. Everything is measured in one
run, so the ratios carry over to other machines and the seconds do not.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import get_args

import numpy as np
from sklearn.cluster import KMeans

from benchmarks.results import Figure, add_json, print_figures
from selectllm.queries import EMPTY, balanced_clusters, build_queries, width_of
from selectllm.settings import Composition


def by_topics(rows: int, dimension: int = 384, topics: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(topics, dimension))
    vectors = centres[rng.integers(topics, size=rows)] + 1.5 * rng.normal(size=(rows, dimension))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def sort_for_every_pick(vectors: np.ndarray, centroids: np.ndarray) -> list[list[int]]:
    """The usual implementation: a full sort for every row, to find the nearest free row."""
    distances = np.linalg.norm(
        vectors[:, None, :16] - centroids[None, :, :16], axis=2
    )  # the distances do not matter here
    free = np.ones(len(vectors), dtype=bool)
    clusters: list[list[int]] = [[] for _ in centroids]
    for turn in range(len(vectors)):
        place = turn % len(centroids)
        row = next(row for row in np.argsort(distances[:, place], kind="stable") if free[row])
        free[row] = False
        clusters[place].append(int(row))
    return clusters


def seconds(work: object, *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)  # type: ignore[operator]
    return time.perf_counter() - started


def diversity(vectors: np.ndarray, queries: np.ndarray) -> tuple[float, float, float]:
    """Mean cosine distance within queries; the 5th percentile of queries' means; the mean closest pair."""
    means, closest = [], []
    for query in queries:
        members = vectors[query[query != EMPTY]]
        apart = (1 - members @ members.T)[np.triu_indices(len(members), 1)]
        means.append(apart.mean())
        closest.append(apart.min())
    return float(np.mean(means)), float(np.percentile(means, 5)), float(np.mean(closest))


def least(work: Callable[[], object], times: int = 3) -> float:
    """The least processor time, of several calls."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def against_k_means(vectors: np.ndarray, size: int) -> list[Figure]:
    """What forming queries takes, against the K-means alone that it begins with."""
    figures = []
    for composition in ("paper", "matched"):
        count = width_of(len(vectors), size, composition)
        k_means = least(partial(KMeans(n_clusters=count, random_state=0, n_init="auto").fit, vectors))
        whole = least(partial(build_queries, vectors, size, composition))
        ratio = whole / k_means
        print(f"{composition}, {len(vectors):,} rows: {whole:.2f} s, K-means alone {k_means:.2f} s: {ratio:.2f} times")
        what = f"processor time to form queries, `{composition}`"
        figures.append(Figure(what, "K-means alone", ratio, at_most=1.3))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", nargs="?", help="a file with `embeddings` (M, d)")
    parser.add_argument("--size", type=int, default=15)
    add_json(parser)
    arguments = parser.parse_args()
    vectors = np.load(arguments.vectors)["embeddings"] if arguments.vectors else by_topics(3000)

    some = by_topics(4000)
    slow, fast = seconds(sort_for_every_pick, some, some[:15]), seconds(balanced_clusters, some, some[:15])
    print(f"assignment of 4,000 rows: {slow / fast:,.0f}x faster than a sort for every pick ({slow:.2f} s)")
    large = by_topics(14_225)
    print(f"assignment of 14,225 rows: {seconds(balanced_clusters, large, large[:15]):.3f} s\n")

    figures = [Figure("time to form clusters of equal size", "a full sort for every pick", fast / slow, at_most=1 / 80)]
    figures += against_k_means(vectors if arguments.vectors else large, arguments.size)
    print()
    distances = {}
    print(f"{'composition':<12} {'distance':>9} {'5th pct':>9} {'closest':>9} {'seconds':>9}   ({len(vectors):,} rows)")
    for composition in get_args(Composition):
        started = time.perf_counter()
        queries = build_queries(vectors, arguments.size, composition)
        took = time.perf_counter() - started
        mean, low, close = diversity(vectors, queries)
        distances[composition] = mean
        print(f"{composition:<12} {mean:>9.3f} {low:>9.3f} {close:>9.3f} {took:>9.2f}")
    matched = distances.pop("matched")
    figures += [
        Figure("distance within queries, `matched`", f"`{name}`", matched / mean) for name, mean in distances.items()
    ]
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
