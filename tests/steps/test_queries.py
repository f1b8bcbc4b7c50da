from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.errors import UsageError
from selectllm.queries import EMPTY, balanced_clusters, build_queries, sizes
from selectllm.settings import Composition

COMPOSITIONS = get_args(Composition)


def unit_vectors(rows: int, seed: int = 0, dimension: int = 12) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def distances(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Mean cosine distance within each query."""
    means = []
    for query in queries:
        members = vectors[query[query != EMPTY]]
        apart = 1 - members @ members.T
        means.append(apart[np.triu_indices(len(members), 1)].mean())
    return np.array(means)


@pytest.mark.parametrize("composition", COMPOSITIONS)
@given(rows=st.integers(0, 90), size=st.integers(1, 20), seed=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_every_row_has_exactly_one_position(composition: Composition, rows: int, size: int, seed: int) -> None:
    queries = build_queries(unit_vectors(rows, seed), size, composition, seed)
    filled = queries != EMPTY
    assert queries.shape == (-(-rows // size), size)
    assert sorted(queries[filled]) == list(range(rows))
    held = filled.sum(axis=1)
    assert sorted(held) == sorted(sizes(rows, size, composition))
    if composition == "paper":
        assert (held[:-1] == size).all()
    elif rows:
        assert held.max() - held.min() <= 1


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_queries_depend_on_the_seed(composition: Composition) -> None:
    vectors = unit_vectors(200)
    first, again, other = (build_queries(vectors, 10, composition, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_identical_rows_are_divided_into_queries(composition: Composition) -> None:
    queries = build_queries(np.tile(unit_vectors(1), (50, 1)), 7, composition)
    assert sorted(queries[queries != EMPTY]) == list(range(50))


def test_paper_reproduces_the_published_composition(shared: Path) -> None:
    published = np.load(shared / "query_parity_3000.npz")
    ours = build_queries(published["embeddings"], 15, "paper", centroids=published["centroids"])
    assert (ours == published["queries"]).all()


def test_matched_queries_are_more_diverse_than_the_papers(shared: Path) -> None:
    vectors = np.load(shared / "query_parity_3000.npz")["embeddings"]
    paper, matched = (
        distances(vectors, build_queries(vectors, 15, composition)) for composition in ("paper", "matched")
    )
    assert matched.mean() > paper.mean() + 0.02
    assert np.percentile(matched, 5) > np.percentile(paper, 5) + 0.05


def test_similar_queries_hold_neighbours(shared: Path) -> None:
    vectors = np.load(shared / "query_parity_3000.npz")["embeddings"]
    similar, random = (
        distances(vectors, build_queries(vectors, 15, composition)) for composition in ("similar", "random")
    )
    assert similar.mean() < random.mean() - 0.1


def test_balanced_clusters_give_each_centroid_its_nearest_free_row() -> None:
    vectors = np.array([[1, 0], [0.99, 0.14], [0, 1], [0.14, 0.99], [0.9, 0.43]], dtype=np.float32)
    clusters = balanced_clusters(vectors, vectors[[0, 2]])
    assert [list(cluster) for cluster in clusters] == [[0, 1, 4], [2, 3]]


def test_ties_go_to_the_earlier_row() -> None:
    clusters = balanced_clusters(np.tile(unit_vectors(1), (4, 1)), unit_vectors(2, seed=1))
    assert [list(cluster) for cluster in clusters] == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("composition", "size", "centroids"), [("nearest", 5, None), ("matched", 0, None), ("paper", 5, unit_vectors(3))]
)
def test_invalid_arguments_are_errors(composition: Composition, size: int, centroids: np.ndarray | None) -> None:
    with pytest.raises(UsageError):
        build_queries(unit_vectors(20), size, composition, centroids=centroids)
