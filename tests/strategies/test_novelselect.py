import numpy as np
import pytest

from selectllm.queries import Vectors
from selectllm.ranking import novelty
from selectllm.ranking.novelty import Novelty, density
from tests.strategies.data import choice_of, drawn, named, on_circle


def plain_density(vectors: Vectors) -> np.ndarray:
    exact = vectors.astype(np.float64)
    apart = 1 - exact @ exact.T
    apart[apart < novelty.SMALLEST] = np.inf
    return np.array([1 / np.sort(row)[: novelty.NEIGHBOURS].mean() for row in apart])


def plain_novelty(vectors: Vectors, weights: np.ndarray, chosen: list[int]) -> np.ndarray:
    """The formula of the source, row by row."""
    exact, values = vectors.astype(np.float64), []
    for vector in exact:
        apart = np.maximum(1 - exact[chosen] @ vector, 0)
        order = np.argsort(apart, kind="stable")
        values.append(sum(apart[y] * weights[chosen[y]] / rank for rank, y in enumerate(order, start=1)))
    return np.array(values)


def kept(vectors: Vectors, weights: np.ndarray, chosen: list[int]) -> np.ndarray:
    found = Novelty(vectors, weights.astype(np.float32))
    for row in chosen:
        found.add(row)
    return found.values()


def test_densities_are_those_of_the_definition() -> None:
    vectors = drawn(70, dimension=6)
    assert density(vectors, vectors) == pytest.approx(plain_density(vectors), rel=1e-4)


def test_repeats_are_no_neighbours_and_few_rows_have_fewer() -> None:
    vectors = on_circle(0, 0, 0, 60)
    assert density(vectors, vectors) == pytest.approx([2, 2, 2, 2], rel=1e-4)
    assert density(vectors[:3], vectors[:3]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [1, 2, 30, 100])
def test_novelty_is_that_of_the_formula(count: int) -> None:
    vectors = drawn(150, dimension=6)
    weights = plain_density(vectors) ** 0.5
    chosen = np.random.default_rng(0).permutation(150)[:count].tolist()
    assert kept(vectors, weights, chosen) == pytest.approx(plain_novelty(vectors, weights, chosen), rel=1e-4, abs=1e-5)


def test_beyond_the_ranks_that_are_kept_it_is_near_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "RANKED", 16)
    vectors = drawn(300, dimension=32)
    weights = plain_density(vectors) ** 0.5
    chosen = list(range(100))
    exact, found = plain_novelty(vectors, weights, chosen), kept(vectors, weights, chosen)
    assert np.abs(found / exact - 1)[100:].max() < 0.05
    assert np.corrcoef(found[100:], exact[100:])[0, 1] > 0.99


@pytest.mark.parametrize("seed", range(3))
def test_picks_are_those_of_a_plain_search(seed: int) -> None:
    vectors = drawn(80, seed, dimension=6)
    rows = named("novelselect", choice_of(vectors, 15, seed=seed))
    weights = plain_density(vectors) ** 0.5
    picks = rows[:1]
    while len(picks) < 15:
        values = plain_novelty(vectors, weights, picks).round(4)
        values[picks] = -np.inf
        picks.append(int(values.argmax()))
    assert rows == picks


def test_excluded_rows_count_as_chosen() -> None:
    vectors = on_circle(0, 3, 6, 175, 178)
    assert named("novelselect", choice_of(vectors, 1, excluded=(0, 1))) in ([3], [4])
    assert named("novelselect", choice_of(vectors, 1, excluded=(3, 4))) in ([0], [1], [2])
