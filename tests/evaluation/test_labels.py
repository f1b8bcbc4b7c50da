"""Measures by labels: recall, worth and AUC."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from selectllm.errors import UsageError
from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures import MEASURES, Missing, labels_of
from selectllm.evaluation.measures.auc import auc, concordance, length_bins, within_bins
from selectllm.evaluation.measures.recall import recall
from tests.evaluation.pools import pool_of, preferences_of, rows_of


def labelled(labels: list[float], chosen: list[int]) -> Measured:
    return Measured(pool_of(["Task"] * len(labels)), rows_of(chosen), labels=np.array(labels, dtype=np.float64))


def test_recall_is_the_share_of_labelled_rows_and_worth_that_of_the_best_choice() -> None:
    assert recall(labelled([1, 0, 1, 1, 0], [0, 1])) == {"recall": 1 / 3, "worth": 1 / 2}
    assert recall(labelled([1, 0, 1, 1, 0], range(5))) == {"recall": 1.0, "worth": 1.0}
    assert recall(labelled([1, 0, 1, 1, 0], [4])) == {"recall": 0.0, "worth": 0.0}


def test_worth_of_scores_is_counted_from_the_lowest() -> None:
    scores = Missing("the labels are scores, not 0 and 1")
    # Above -1: 0, 3, 5, 6. Chosen are 3 and 5, the best two 5 and 6.
    assert recall(labelled([-1, 2, 4, 5], [1, 2])) == {"recall": scores, "worth": 8 / 11}
    assert recall(labelled([-1, 2, 4, 5], [2, 3])) == {"recall": scores, "worth": 1.0}


def test_rows_without_a_label_are_left_out() -> None:
    nan = float("nan")
    assert recall(labelled([1, nan, 0, 1], [0, 1])) == {"recall": 1 / 2, "worth": 1.0}
    nothing = Missing("no chosen row has a label")
    assert recall(labelled([1, nan, 0, 1], [1])) == {"recall": 0.0, "worth": nothing}


@pytest.mark.parametrize(
    ("labels", "reason"), [([1, 1, 1], "all labels are the same"), ([float("nan")] * 3, "no row has a label")]
)
def test_labels_that_tell_nothing_apart_have_no_values(labels: list[float], reason: str) -> None:
    assert recall(labelled(labels, [0])) == {"recall": Missing(reason), "worth": Missing(reason)}


numbers = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=40)
scores = st.lists(st.tuples(st.integers(-2, 3), st.integers(-3, 3)), min_size=1, max_size=25)


@settings(max_examples=100, deadline=None)
@given(numbers)
def test_auc_of_two_kinds_is_the_area_under_the_curve(pairs: list[tuple[int, int]]) -> None:
    labels, values = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    expected = roc_auc_score(labels, values) if 0 < labels.sum() < len(labels) else None
    assert concordance(labels, values) == (None if expected is None else pytest.approx(expected))


@settings(max_examples=100, deadline=None)
@given(scores)
def test_auc_of_scores_is_the_share_of_pairs(pairs: list[tuple[int, int]]) -> None:
    won = [
        0.5 + 0.5 * np.sign(value - other)
        for label, value in pairs
        for lower, other in pairs
        if label > lower
    ]  # fmt: skip
    labels, values = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    assert concordance(labels, values) == (pytest.approx(np.mean(won)) if won else None)


def test_bins_of_length_have_equally_many_rows() -> None:
    lengths = np.array([9, 1, 1, 5, 5, 5, 2], dtype=np.int64)
    assert [part.tolist() for part in length_bins(lengths)] == [[1, 2], [6, 3], [4], [5], [0]]


def test_length_alone_gives_auc_and_hardly_any_within_bins() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 1000, 5000)
    labels = (rng.random(5000) < lengths / 1000).astype(np.float64)
    everywhere = concordance(labels, lengths.astype(np.float64))
    within = within_bins(labels, lengths.astype(np.float64), lengths)
    assert everywhere is not None
    assert within is not None
    assert everywhere > 0.8
    assert within < 0.6


def test_within_bins_is_over_all_pairs_of_a_bin() -> None:
    rng = np.random.default_rng(1)
    labels, values = rng.integers(0, 2, 60).astype(np.float64), rng.integers(0, 5, 60).astype(np.float64)
    lengths = rng.integers(1, 9, 60)
    won = [
        0.5 + 0.5 * np.sign(values[row] - values[other])
        for part in length_bins(lengths)
        for row in part
        for other in part
        if labels[row] > labels[other]
    ]
    assert within_bins(labels, values, lengths) == pytest.approx(np.mean(won))


def placed(labels: list[float], order: list[int], scores: list[float | None] | None = None) -> Measured:
    pool = pool_of(["x" * (number + 1) for number in range(len(labels))])
    preferences = preferences_of([str(row) for row in order], scores)
    return Measured(pool, rows_of([0]), preferences=preferences, labels=np.array(labels, dtype=np.float64))


def test_auc_goes_by_places_without_scores() -> None:
    assert auc(placed([1, 0, 1, 0], [0, 2, 1, 3]))["auc"] == 1.0
    assert auc(placed([1, 0, 1, 0], [3, 1, 2, 0]))["auc"] == 0.0
    assert auc(placed([1, 0, 1, 0], [0, 1, 2, 3]))["auc"] == 0.75


def test_equal_scores_count_half() -> None:
    assert auc(placed([1, 0, 1, 0], [0, 1, 2, 3], [2.0, 2.0, 1.0, 0.0]))["auc"] == pytest.approx((0.5 + 1 + 0 + 1) / 4)


def test_scores_that_do_not_fall_say_nothing() -> None:
    assert auc(placed([1, 0, 1, 0], [0, 1, 2, 3], [0.0, 9.0, 9.0, 9.0]))["auc"] == 0.75


def test_bins_without_different_labels_are_missing() -> None:
    values = auc(placed([1, 1, 0, 1, 0], [0, 1, 2, 3, 4]))
    alike = Missing("no two of these rows have different labels")
    assert [values[name] for name in MEASURES["auc"].values] == [pytest.approx(5 / 6), *[alike] * 6]


def test_rows_without_label_need_no_place_and_those_with_one_do() -> None:
    assert auc(placed([1, 0, float("nan")], [0, 1]))["auc"] == 1.0
    missing = Missing("2 of 3 labelled rows have a place among the preferences")
    assert set(auc(placed([1, 0, 1], [0, 1])).values()) == {missing}


def test_no_label_at_all_is_missing() -> None:
    assert isinstance(auc(placed([float("nan")] * 3, [0, 1, 2]))["auc"], Missing)
    assert isinstance(auc(placed([1.0, 1.0], [0, 1]))["auc_within_length"], Missing)


def test_labels_are_read_from_a_column() -> None:
    pool = pa.table({"id": ["a", "b", "c"], "good": [True, None, False], "stars": [5, 1, None], "tag": ["x", "y", "z"]})
    assert labels_of(pool, "good").tolist() == [1, pytest.approx(np.nan, nan_ok=True), 0]
    assert labels_of(pool, "stars").tolist()[:2] == [5, 1]
    with pytest.raises(UsageError, match="holds string"):
        labels_of(pool, "tag")
    with pytest.raises(UsageError, match="no column 'best'"):
        labels_of(pool, "best")
