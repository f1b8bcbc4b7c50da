from itertools import combinations

import numpy as np
import pytest

from selectllm.queries import Vectors
from selectllm.strategies.kcenter import k_center
from tests.strategies.data import choice_of, drawn, named, on_circle

NONE = np.array([], dtype=np.int64)


def radius(vectors: Vectors, centers: list[int]) -> float:
    """The largest distance of a row to its nearest center, by its definition."""
    exact = vectors.astype(np.float64)
    return float(np.linalg.norm(exact[:, None] - exact[centers], axis=2).min(axis=1).max())


def plain(vectors: Vectors, first: int, count: int) -> list[int]:
    """Picks by all distances each time."""
    exact, centers = vectors.astype(np.float64), [first]
    while len(centers) < count:
        centers.append(int(np.linalg.norm(exact[:, None] - exact[centers], axis=2).min(axis=1).round(6).argmax()))
    return centers


def test_picks_and_their_distances_on_a_circle() -> None:
    vectors = on_circle(0, 10, 20, 180, 60)
    picks = list(k_center(vectors, np.arange(5), NONE, 4))
    assert [row for row, _ in picks] == [2, 3, 4, 0], "the mean lies at 30 degrees"
    chords = [2 * np.sin(np.radians(degrees) / 2) for degrees in (160, 40, 20)]
    assert picks[0][1] is None
    assert [score for _, score in picks[1:]] == pytest.approx(chords, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_picks_are_those_of_a_plain_search(seed: int) -> None:
    vectors = drawn(120, seed, dimension=8)
    rows = [row for row, _ in k_center(vectors, np.arange(120), NONE, 20)]
    assert rows == plain(vectors, rows[0], 20)


@pytest.mark.parametrize("seed", range(5))
def test_the_radius_is_at_most_twice_the_least(seed: int) -> None:
    vectors = drawn(12, seed, dimension=3)
    best = min(radius(vectors, list(centers)) for centers in combinations(range(12), 3))
    assert best <= radius(vectors, [row for row, _ in k_center(vectors, np.arange(12), NONE, 3)]) <= 2 * best + 1e-6


def test_vectors_need_not_be_of_unit_length() -> None:
    line = np.array([[0.0], [1.0], [2.0], [9.0]], dtype=np.float32)
    picks = list(k_center(line, np.arange(4), NONE, 3))
    assert [row for row, _ in picks] == [2, 3, 0]
    assert [score for _, score in picks[1:]] == [7, 2]


def test_excluded_rows_count_as_centers() -> None:
    vectors = on_circle(0, 5, 90, 95, 180)
    assert named("kcenter", choice_of(vectors, 2, excluded=(0,))) == [4, 2]
    (_, first), *_ = k_center(vectors, np.array([1, 2, 3, 4]), np.array([0]), 1)
    assert first == pytest.approx(2)
