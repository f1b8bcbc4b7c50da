from itertools import combinations
from math import e

import numpy as np
import pytest

from selectllm.queries import Vectors
from selectllm.ranking import cover, lazy_greedy
from selectllm.ranking.cover import Cover
from selectllm.ranking.lazy_greedy import LazyGreedy
from selectllm.strategies import facility, load_strategy
from selectllm.strategies.facility import FacilityLocation
from tests.strategies.data import choice_of, drawn, named, on_circle

NONE = np.array([], dtype=np.int64)


def value(vectors: Vectors, chosen: list[int]) -> float:
    """The sum of the cover, by its definition."""
    exact = vectors.astype(np.float64)
    return float(np.maximum((exact @ exact[chosen].T).max(axis=1), 0).sum()) if chosen else 0.0


def brute_force(vectors: Vectors, count: int, chosen: tuple[int, ...] = ()) -> list[int]:
    """Picks by looking at every row each time."""
    picks: list[int] = []
    while len(picks) < count:
        left = [row for row in range(len(vectors)) if row not in (*chosen, *picks)]
        before = value(vectors, [*chosen, *picks])
        gains = [round(value(vectors, [*chosen, *picks, row]) - before, lazy_greedy.DIGITS) for row in left]
        picks.append(left[int(np.argmax(gains))])
    return picks


def search(vectors: Vectors) -> LazyGreedy:
    return LazyGreedy(FacilityLocation(vectors, vectors, NONE), np.arange(len(vectors)))


@pytest.mark.parametrize("seed", range(8))
def test_picks_are_those_of_brute_force(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_greedy, "FEWEST", 2)
    vectors = drawn(60, seed, dimension=5)
    found = list(search(vectors).picks(12))
    assert [row for row, _ in found] == brute_force(vectors, 12)
    assert sum(gain for _, gain in found) == pytest.approx(value(vectors, [row for row, _ in found]), abs=1e-2)


def test_ties_are_broken_as_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_greedy, "FEWEST", 1)
    vectors = np.repeat(drawn(12, 3), 3, axis=0)
    assert [row for row, _ in search(vectors).picks(20)] == brute_force(vectors, 20)


@pytest.mark.parametrize("seed", range(5))
def test_the_value_is_near_the_best(seed: int) -> None:
    vectors = drawn(11, seed, dimension=3)
    best = max(value(vectors, list(rows)) for rows in combinations(range(11), 4))
    assert value(vectors, [row for row, _ in search(vectors).picks(4)]) >= (1 - 1 / e) * best


def test_most_rows_are_measured_once() -> None:
    rng = np.random.default_rng(0)
    centers = drawn(30, dimension=16)
    vectors = centers[rng.integers(30, size=2000)] + 0.1 * drawn(2000, 1, 16)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    objective = FacilityLocation(vectors, vectors, NONE)
    measured: list[int] = []
    gains = objective.gains
    objective.gains = lambda rows: (measured.append(len(rows)), gains(rows))[1]  # type: ignore[method-assign]
    list(LazyGreedy(objective, np.arange(2000)).picks(30))
    assert 2000 <= sum(measured) < 10 * 2000, "a plain search measures 30 times as many"


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(90)
    expected = list(search(vectors).picks(15))
    monkeypatch.setattr(cover, "BLOCK", 7)
    monkeypatch.setattr(facility, "BLOCK", 7)
    monkeypatch.setattr(lazy_greedy, "MOST", 11)
    assert list(search(vectors).picks(15)) == expected


def test_the_row_that_stands_for_most_comes_first_and_excluded_rows_cover() -> None:
    vectors = on_circle(0, 1, 2, 90, 91, 180)
    assert named("facility", choice_of(vectors, 3)) == [2, 4, 5], "row 2 is a little nearer to 4 and 5"
    assert named("facility", choice_of(vectors, 2, excluded=(1,))) == [4, 5]
    assert brute_force(vectors, 2, (1,)) == [4, 5]


def test_the_score_is_what_a_row_adds_to_the_mean_cover() -> None:
    vectors = np.eye(4, dtype=np.float32)
    table = load_strategy("facility").prefer(choice_of(vectors, 4))
    assert table["score"].to_pylist() == [0.25] * 4


def test_the_cover_is_that_of_the_last_choice() -> None:
    vectors = drawn(50)
    exact = Cover(vectors, vectors)
    assert FacilityLocation(vectors, vectors, NONE).gains(np.arange(50)) / 50 == pytest.approx(exact.gains, abs=1e-6)


def test_a_stochastic_search_draws_by_the_seed_and_loses_little() -> None:
    vectors = drawn(1000, dimension=8)
    exact = value(vectors, [row for row, _ in search(vectors).picks(20)])
    picks = [[row for row, _ in search(vectors).stochastic_picks(20, 0.1, seed)] for seed in (0, 0, 1)]
    assert picks[0] == picks[1] != picks[2]
    for rows in picks:
        assert len(set(rows)) == 20
        assert 0.95 * exact <= value(vectors, rows) <= exact + 1e-6


def test_large_pools_are_searched_stochastically_and_only_there_the_seed_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, strategy = drawn(300, dimension=8), load_strategy("facility")
    assert strategy.settings(choice_of(vectors, 5, seed=3)) == {}
    assert named("facility", choice_of(vectors, 5, seed=3)) == named("facility", choice_of(vectors, 5, seed=4))
    monkeypatch.setattr(facility, "EXACT", 299)
    assert strategy.settings(choice_of(vectors, 5, seed=3)) == {"seed": 3}
    assert named("facility", choice_of(vectors, 5, seed=3)) != named("facility", choice_of(vectors, 5, seed=4))
