"""Intervals of paired differences, bands, and verdicts."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap

from selectllm.errors import UsageError
from selectllm.evaluation import bootstrap
from selectllm.evaluation.bootstrap import Band, Interval, band, paired_difference, verdict


def test_the_interval_is_that_of_all_resamples() -> None:
    differences = np.array([1.0, 4.0, 2.0])
    means = np.sort([np.mean(each) for each in np.array(np.meshgrid(*[differences] * 3)).reshape(3, -1).T])
    low, high = np.percentile(means, [2.5, 97.5], method="inverted_cdf")
    found = paired_difference([2, 5, 3], [1, 1, 1])
    assert (found.mean, found.pairs) == (pytest.approx(7 / 3), 3)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("difference", [0.0, 0.25, -3.0])
def test_constant_differences_have_no_width(count: int, difference: float) -> None:
    found = paired_difference([1 + difference] * count, [1.0] * count)
    assert found == Interval(difference, difference, difference, count)


def test_pairs_count_and_not_the_spread_of_each_sample() -> None:
    seeds = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    found = paired_difference((seeds + np.array([1, 1.1, 0.9, 1, 1])).tolist(), seeds.tolist())
    assert 0.9 < found.low < 1 < found.high < 1.1


def test_equal_seeds_give_equal_intervals() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 5))
    assert paired_difference(first, second, seed=3) == paired_difference(first, second, seed=3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6))
def test_the_interval_holds_the_mean_and_stays_within_the_differences(differences: list[float]) -> None:
    found = paired_difference(differences, [0.0] * len(differences))
    assert min(differences) - 1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= max(differences) + 1e-9


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [([1.0], [2.0], "at least two pairs"), ([1.0, 2.0], [1.0], "2 and 1"), ([1.0, np.nan], [0.0, 0.0], "finite")],
)
def test_what_is_no_paired_sample_has_no_interval(first: list[float], second: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        paired_difference(first, second)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("row", "draw", "method"),
    [
        ("normal", "standard_normal", "percentile"),
        ("exponential", "standard_exponential", "percentile"),
        ("normal, by BCa", "standard_normal", "BCa"),
    ],
)
def test_the_interval_falls_short_as_the_docstring_says(row: str, draw: str, method: str, place: int) -> None:
    samples = getattr(np.random.default_rng(0), draw)(size=(2000, (3, 5, 10)[place]))
    found = scipy_bootstrap(
        (samples,), np.mean, axis=-1, vectorized=True, n_resamples=999, method=method, batch=100,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    mean = 1.0 if row == "exponential" else 0.0
    share = 100 * ((found.low <= mean) & (found.high >= mean)).mean()
    (said,) = re.findall(rf"(?m)^ +{row} +(\d+) +(\d+) +(\d+)$", bootstrap.__doc__ or "")
    assert float(said[place]) == pytest.approx(share, abs=2)


def test_a_band_has_percentiles_and_extremes() -> None:
    assert band(range(41)) == Band(1.0, 39.0, 0.0, 40.0, 41)
    assert band([2.0]) == Band(2.0, 2.0, 2.0, 2.0, 1)
    for values in ([], [1.0, np.nan]):
        with pytest.raises(UsageError, match="a band needs"):
            band(values)


@pytest.mark.parametrize(
    ("low", "high", "mean", "expected"),
    [
        (0.1, 0.3, 5.1, "higher"),
        (0.1, 0.3, 4.9, "not different"),
        (0.0, 0.3, 5.1, "not different"),
        (-0.1, 0.3, 5.1, "not different"),
        (-0.3, -0.1, 0.9, "lower"),
        (-0.3, -0.1, 1.1, "not different"),
        (-0.3, 0.0, 0.9, "not different"),
        (0.0, 0.0, 3.0, "not different"),
    ],
)
def test_a_verdict_wants_both_the_interval_and_the_band(low: float, high: float, mean: float, expected: str) -> None:
    difference = Interval((low + high) / 2, low, high, 5)
    assert verdict(difference, mean, Band(1, 5, 0, 6, 5)) == expected
