from itertools import combinations
from math import e

import numpy as np
import pytest

from selectllm.queries import Vectors
from selectllm.ranking import cover, diversity
from selectllm.ranking.diversity import Aim, Numbers, choose_diverse, scaled


def drawn(rows: int, seed: int = 0, dimension: int = 4) -> tuple[Vectors, Numbers]:
    """Vectors of unit length, and ratings that fall from 1 to 0."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, scaled(np.sort(rng.normal(size=rows))[::-1], rows)


def value(vectors: Vectors, ratings: Numbers, aim: Aim, chosen: list[int]) -> float:
    """What is maximised, by its definition."""
    exact = vectors.astype(np.float64)
    cover = np.maximum((exact @ exact[chosen].T).max(axis=1), 0).mean() if chosen else 0.0
    return float((1 - aim.diversity) * ratings[chosen].sum() / aim.budget + aim.diversity * cover)


def greedy(vectors: Vectors, ratings: Numbers, aim: Aim) -> list[int]:
    """Picks by looking at every row each time."""
    chosen: list[int] = []
    while len(chosen) < aim.budget:
        left = [row for row in range(len(vectors)) if row not in chosen]
        before = value(vectors, ratings, aim, chosen)
        gains = [round((value(vectors, ratings, aim, [*chosen, row]) - before) * aim.budget, 6) for row in left]
        chosen.append(left[int(np.argmax(gains))])
    return chosen


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_picks_are_those_of_a_plain_greedy_search(share: float, seed: int) -> None:
    vectors, ratings = drawn(40, seed)
    aim = Aim(share, 7)
    assert choose_diverse(vectors, ratings, aim).chosen == greedy(vectors, ratings, aim)


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_value_is_near_that_of_the_best_choice(share: float, seed: int) -> None:
    vectors, ratings = drawn(11, seed, dimension=3)
    aim = Aim(share, 4)
    best = max(value(vectors, ratings, aim, list(rows)) for rows in combinations(range(11), 4))
    found = value(vectors, ratings, aim, choose_diverse(vectors, ratings, aim).chosen)
    assert (1 - 1 / e) * best <= found <= best + 1e-9


def test_without_diversity_the_first_rows_are_picked_in_order() -> None:
    vectors, ratings = drawn(40)
    assert choose_diverse(vectors, ratings, Aim(0, 7)).chosen == list(range(7))


def test_more_diversity_never_covers_less_here() -> None:
    vectors, ratings = drawn(200)
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    covers = [
        value(vectors, ratings, Aim(1, 10), choose_diverse(vectors, ratings, Aim(share, 10)).chosen) for share in shares
    ]
    assert covers == sorted(covers)
    assert covers[-1] > covers[0] + 0.05


def test_equal_rows_are_not_both_picked_and_the_first_of_them_is() -> None:
    vectors, _ = drawn(6, dimension=16)
    vectors = np.concatenate([vectors, vectors, vectors])
    for _ in range(3):
        picks = choose_diverse(vectors, np.ones(18), Aim(0.5, 6))
        assert sorted(picks.chosen) == list(range(6))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, ratings = drawn(60)
    expected = choose_diverse(vectors, ratings, Aim(0.6, 9))
    monkeypatch.setattr(cover, "BLOCK", 7)
    assert choose_diverse(vectors, ratings, Aim(0.6, 9)) == expected


def test_only_the_first_rows_may_be_picked_but_all_are_covered() -> None:
    vectors, ratings = drawn(60)
    (row,) = choose_diverse(vectors, ratings, Aim(1, 1)).chosen
    assert row < diversity.CANDIDATES
    assert row == int(np.argmax([value(vectors, ratings, Aim(1, 1), [row]) for row in range(diversity.CANDIDATES)]))


def test_near_duplicates_are_passed_over_when_they_would_be_picked() -> None:
    vectors, ratings = drawn(60, dimension=3)
    picks = choose_diverse(vectors, ratings, Aim(0.2, 6), 0.6)
    cosines = vectors[picks.chosen] @ vectors[picks.chosen].T
    assert cosines[~np.eye(6, dtype=bool)].max() < 0.6
    assert picks.passed_over
    for passed in picks.passed_over:
        assert passed.near in picks.chosen
        assert passed.cosine == pytest.approx(float(vectors[passed.row] @ vectors[passed.near]), abs=2e-6)


def test_where_all_candidates_are_passed_over_the_next_rows_follow() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0] * 30 + [1, 0, 2]]
    picks = choose_diverse(vectors, np.ones(33), Aim(0.5, 3), 0.95)
    assert picks.chosen == [0, 30, 32]
    assert [passed.row for passed in picks.passed_over] == [*range(1, 30), 31]


def test_ratings_are_scaled_scores_or_places() -> None:
    assert scaled(np.array([3.0, 2.0, 1.0, 1.0]), 4).tolist() == [1, 0.5, 0, 0]
    assert scaled(None, 3).tolist() == [1, 0.5, 0]
    assert scaled(np.array([1.0, 2.0, 0.0]), 3).tolist() == [1, 0.5, 0], "the scores are not in order"
    assert scaled(np.array([2.0, 2.0]), 2).tolist() == [1, 1]
    assert scaled(None, 1).tolist() == [1]


def test_ratings_are_scaled_over_the_rows_that_may_be_picked() -> None:
    vectors, _ = drawn(60)
    scores = np.concatenate([np.linspace(5, 4, 20), np.full(40, -1e6)])
    assert choose_diverse(vectors, scores, Aim(0.4, 2)) == choose_diverse(vectors, scores.clip(4), Aim(0.4, 2))


def test_of_many_rows_those_to_be_covered_are_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "COVERED", 4)
    vectors = np.eye(7, dtype=np.float32)
    assert choose_diverse(vectors, None, Aim(1, 4)).chosen == [0, 2, 4, 6]
