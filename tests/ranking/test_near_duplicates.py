import numpy as np
import pytest

from selectllm.queries import Vectors
from selectllm.ranking import near_duplicates
from selectllm.ranking.near_duplicates import PassedOver, Picks, _first_highest, choose_distinct, rounded


def unit(*angles: float) -> Vectors:
    """Vectors in the plane at these angles, in degrees."""
    return np.array([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in angles], dtype=np.float32)


def drawn(rows: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)
    found: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def one_by_one(vectors: Vectors, budget: int, limit: float) -> Picks:
    """The definition: each row is compared with all rows that are chosen before it."""
    picks = Picks()
    for row, vector in enumerate(vectors.astype(np.float64)):
        if len(picks.chosen) == budget:
            break
        cosines = [round(float(vectors[other].astype(np.float64) @ vector), 6) for other in picks.chosen]
        if cosines and max(cosines) >= limit:
            picks.passed_over.append(PassedOver(row, picks.chosen[int(np.argmax(cosines))], max(cosines)))
        else:
            picks.chosen.append(row)
    return picks


def test_a_row_near_a_chosen_row_is_passed_over_and_names_the_nearest() -> None:
    picks = choose_distinct(unit(0, 10, 90, 85, 45, 180), 4, 0.98)
    assert picks.chosen == [0, 2, 4, 5]
    assert [(row.row, row.near, round(row.cosine, 3)) for row in picks.passed_over] == [(1, 0, 0.985), (3, 2, 0.996)]


def test_a_row_near_a_row_that_was_passed_over_is_chosen() -> None:
    assert choose_distinct(unit(0, 10, 20), 2, 0.98).chosen == [0, 2]


def test_rows_after_the_last_chosen_one_are_not_looked_at() -> None:
    picks = choose_distinct(unit(0, 90, 0), 2, 0.98)
    assert (picks.chosen, picks.passed_over) == ([0, 1], [])


def test_fewer_rows_are_chosen_where_no_more_are_left() -> None:
    assert choose_distinct(unit(0, 1, 2), 2, 0.98).chosen == [0]


def test_equal_vectors_are_nearly_the_same_at_the_highest_limit() -> None:
    vectors = drawn(1).repeat(3, axis=0)
    assert choose_distinct(vectors, 2, 1.0).passed_over == [PassedOver(1, 0, 1.0), PassedOver(2, 0, 1.0)]


@pytest.mark.parametrize("block", [1, 3, 1024])
@pytest.mark.parametrize("limit", [0.5, 0.9])
def test_blocks_change_nothing(block: int, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "BLOCK", block)
    monkeypatch.setattr(near_duplicates, "CHOSEN_BLOCK", block)
    vectors = drawn(60)
    expected = one_by_one(vectors, 12, limit)
    picks = choose_distinct(vectors, 12, limit)
    assert picks.chosen == expected.chosen
    assert [(row.row, row.near) for row in picks.passed_over] == [(row.row, row.near) for row in expected.passed_over]
    cosines = [row.cosine for row in expected.passed_over]
    assert [row.cosine for row in picks.passed_over] == pytest.approx(cosines, abs=2e-6)


@pytest.mark.parametrize("kind", ["apart", "equal", "around a digit", "near one"])
def test_the_first_highest_cosine_is_that_of_rounding_all(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        shape = tuple(rng.integers(1, 60, size=2))
        likeness = {
            "apart": rng.uniform(-1, 1, shape),
            "equal": rng.uniform(-1, 1, shape).round(1),
            "around a digit": 0.95 + rng.integers(-5, 6, shape) * 2.5e-7,
            "near one": 1 - rng.integers(0, 4, shape) * 5e-7,
        }[kind].astype(np.float32)
        every, exact = np.arange(shape[0]), rounded(likeness)
        first, highest = _first_highest(likeness)
        assert first.tolist() == exact.argmax(axis=1).tolist()
        assert highest.tolist() == exact[every, first].tolist()
