import numpy as np
import pytest

from selectllm.queries import Vectors
from selectllm.strategies import load_strategy, probcover
from selectllm.strategies.probcover import Balls, pure_radius
from tests.strategies.data import choice_of, drawn, named, on_circle


def is_pure_share(vectors: Vectors, clusters: np.ndarray, radius: float) -> float:
    """The share of pure balls, by its definition."""
    exact = vectors.astype(np.float64)
    apart = ((exact[:, None] - exact) ** 2).sum(axis=2)
    return float(np.mean([(clusters[apart[row] < radius] == clusters[row]).all() for row in range(len(vectors))]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("purity", [0.8, 0.95, 1.0])
def test_the_radius_is_the_largest_at_which_enough_balls_are_pure(seed: int, purity: float) -> None:
    vectors = drawn(60, seed, dimension=3)
    clusters = (vectors[:, 0] > 0).astype(np.int64)
    radius = pure_radius(vectors, clusters, purity)
    assert is_pure_share(vectors, clusters, radius - 1e-5) >= purity
    assert is_pure_share(vectors, clusters, radius + 1e-5) < purity


def test_one_cluster_has_balls_without_end() -> None:
    assert pure_radius(drawn(9), np.zeros(9, dtype=np.int64)) == np.inf


def test_blocks_and_a_sample_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(80)
    clusters = (vectors[:, 0] > 0).astype(np.int64)
    expected = pure_radius(vectors, clusters)
    monkeypatch.setattr("selectllm.ranking.cover.BLOCK", 9)
    assert pure_radius(vectors, clusters) == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(probcover, "MEASURED", 40)
    assert pure_radius(vectors, clusters) == pytest.approx(expected, abs=0.5)


def greedy(vectors: Vectors, radius: float, count: int) -> list[int]:
    """Picks by counting every ball each time."""
    exact = vectors.astype(np.float64)
    holds = (((exact[:, None] - exact) ** 2).sum(axis=2) < radius) | np.eye(len(vectors), dtype=bool)
    is_open, picks = np.ones(len(vectors), dtype=bool), []
    while len(picks) < count:
        held = (holds & is_open).sum(axis=1).astype(float)
        held[picks] = -1
        picks.append(int(held.argmax()))
        is_open &= ~holds[picks[-1]]
    return picks


@pytest.mark.parametrize("seed", range(4))
def test_picks_are_those_of_a_plain_search(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(90, seed, dimension=3)
    monkeypatch.setattr(probcover, "pure_radius", lambda *_: 0.2)
    assert named("probcover", choice_of(vectors, 25)) == greedy(vectors, 0.2, 25)


def test_counts_on_a_circle_and_excluded_rows_hold_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = on_circle(0, 4, 8, 90, 94, 180)
    monkeypatch.setattr(probcover, "pure_radius", lambda *_: (2 * np.sin(np.radians(5) / 2)) ** 2)
    table = load_strategy("probcover").prefer(choice_of(vectors, 4))
    assert table["score"].to_pylist() == [3, 2, 1, 0]
    assert named("probcover", choice_of(vectors, 4)) == [1, 3, 5, 0]
    assert named("probcover", choice_of(vectors, 2, excluded=(0,))) == [3, 1], "row 1 holds row 2 alone"


def test_a_ball_of_no_size_holds_its_own_row() -> None:
    vectors = np.tile(drawn(1), (4, 1))
    assert Balls(vectors, 0.0, np.array([], dtype=np.int64)).gains(np.arange(4)).tolist() == [1] * 4
