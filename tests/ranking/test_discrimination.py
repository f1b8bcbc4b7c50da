import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from selectllm.ranking.discrimination import Comparisons, Estimate, wins

ALL = np.full(100, True)


def compared(better: list[float], worse: list[float]) -> Comparisons:
    comparisons = Comparisons(len(better))
    comparisons.add(range(len(better)), np.array(better), np.array(worse))
    return comparisons


def test_wins_count_equal_scores_half() -> None:
    table = wins(np.array([3.0, 1.0]), np.array([1.0, 2.0]))
    assert table.tolist() == [[1.0, 1.0], [0.5, 0.0]]


def test_the_auc_is_that_of_the_scores() -> None:
    random = np.random.default_rng(1)
    better, worse = random.integers(0, 9, 40).astype(float), random.integers(0, 7, 40).astype(float)
    expected = roc_auc_score([1] * 40 + [0] * 40, np.concatenate([better, worse]))
    assert compared(list(better), list(worse)).auc(ALL[:40]).value == pytest.approx(expected, abs=1e-4)


def test_only_what_was_judged_together_is_compared() -> None:
    comparisons = Comparisons(4)
    comparisons.add([0, 1], np.array([2.0, 3.0]), np.array([1.0, 0.0]))
    comparisons.add([2, 3], np.array([-9.0, -8.0]), np.array([-7.0, -9.0]))
    # Of the second list one comparison of four is won and one is even.
    assert comparisons.auc(ALL[:4]).value == (4 + 1.5) / 8
    assert comparisons.accuracy(ALL[:4]).value == 0.75


def test_a_part_is_compared_with_all_others() -> None:
    comparisons = compared([3.0, 0.0], [1.0, 2.0])
    first = np.array([True, False])
    assert comparisons.accuracy(first) == Estimate(1.0, 1.0, 1.0, 1)
    assert (comparisons.auc(first).value, comparisons.auc(first).pairs) == (round(2 / 3, 4), 1)


def test_two_passes_over_a_pair_are_one_pair() -> None:
    comparisons = compared([1.0, 1.0], [0.0, 0.0])
    comparisons.add([0, 1], np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    found = comparisons.accuracy(ALL[:2])
    assert (found.value, found.pairs) == (0.75, 2)


def test_estimates_without_spread_have_intervals_without_width() -> None:
    comparisons = compared([1.0] * 20, [0.0] * 20)
    assert comparisons.accuracy(ALL[:20]) == comparisons.auc(ALL[:20]) == Estimate(1.0, 1.0, 1.0, 20)


def test_without_pairs_nothing_is_estimated() -> None:
    nothing = Estimate(None, None, None, 0)
    assert Comparisons(0).accuracy(ALL[:0]) == Comparisons(0).auc(ALL[:0]) == nothing
    assert compared([1.0], [0.0]).accuracy(np.array([False])) == nothing


def test_the_interval_of_the_accuracy_is_that_of_a_share() -> None:
    found = compared([1.0] * 80 + [0.0] * 20, [0.0] * 80 + [1.0] * 20).accuracy(ALL)
    assert (found.value, found.pairs) == (0.8, 100)
    assert found.low == pytest.approx(0.72, abs=0.011)  # 0.8 - 1.96 * sqrt(0.8 * 0.2 / 100)
    assert found.high == pytest.approx(0.88, abs=0.011)


def test_the_interval_of_the_auc_holds_the_truth_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(3), 0
    for _ in range(60):  # of 60 intervals that hold it with 95 %, 52 or more do so with 98 %
        better, worse = random.normal(1.0, 1.0, 60), random.normal(0.0, 1.0, 60)
        found = compared(list(better), list(worse)).auc(ALL[:60])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.7602 <= found.high  # the normal distribution's value at 1 / sqrt(2)
    assert held >= 52
