import numpy as np
import pytest

from selectllm.strategies import stratified
from selectllm.strategies.stratified import in_strata, nearest
from tests.strategies.data import choice_of, drawn, named


def test_every_beginning_holds_each_cluster_by_its_share() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 1, 2], [50, 30, 20])
    order = np.argsort(in_strata(clusters, rng.random(100)), kind="stable")
    for count in range(1, 101):
        held = np.bincount(clusters[order[:count]], minlength=3)
        assert np.abs(held - count * np.array([0.5, 0.3, 0.2])).max() <= 1


def test_within_a_cluster_the_draw_decides() -> None:
    assert in_strata(np.array([5, 5, 9]), np.array([0.9, 0.1, 0.4])).tolist() == [0.75, 0.25, 0.5]


def test_clusters_of_the_pool_are_held_by_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stratified, "CLUSTERS", 4)
    sizes = [40, 20, 20, 20]
    vectors = np.repeat(np.eye(4, 8, dtype=np.float32), sizes, axis=0) + 0.01 * drawn(100, dimension=8)
    of = np.repeat(range(4), sizes)
    for seed in range(3):
        rows = named("stratified", choice_of(vectors, 10, seed=seed))
        assert np.bincount(of[rows[:10]]).tolist() == [4, 2, 2, 2]


def test_of_equally_near_centroids_the_first_counts() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.7, 0.7]], dtype=np.float32)
    assert nearest(vectors, np.eye(2, dtype=np.float32)).tolist() == [0, 1, 0]


def test_excluded_rows_keep_their_places() -> None:
    vectors = drawn(40)
    assert named("stratified", choice_of(vectors, 5, excluded=(1, 2))) == named("stratified", choice_of(vectors, 5))
