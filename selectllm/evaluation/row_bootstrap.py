"""Intervals of anything that is computed from rows: the rows are drawn anew, with repeats, and it is computed again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from selectllm.cancellation import raise_if_cancelled
from selectllm.evaluation.bootstrap import PERCENTILES
from selectllm.queries import Rows

RESAMPLES: Final = 999

LEAST_RESAMPLES: Final = 0.9
"""Share of the resamples that must have a value, or there is no interval."""


@dataclass(frozen=True)
class Estimated:
    """A value with its 95 % bootstrap interval; `low` and `high` are None where too few resamples have a value."""

    value: float
    low: float | None
    high: float | None

    def record(self) -> dict[str, float | None]:
        """The same in plain values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def estimate(statistic: Callable[[Rows], float], count: int, seed: int = 0) -> Estimated | None:
    """A statistic of `count` rows with its interval of percentiles (Efron, 1979); None where it has no value.

    `statistic` takes the numbers of rows, from 0, some of them several times, and returns NaN where these rows have no
    value. Equal arguments give equal intervals.
    """
    if not count or np.isnan(value := statistic(np.arange(count))):
        return None
    drawn, values = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        raise_if_cancelled()
        values.append(statistic(drawn.integers(count, size=count)))
    found = np.array(values)[~np.isnan(values)]
    if len(found) < LEAST_RESAMPLES * RESAMPLES:
        return Estimated(float(value), None, None)
    low, high = np.percentile(found, PERCENTILES)
    return Estimated(float(value), float(low), float(high))
