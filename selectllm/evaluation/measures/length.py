"""How long the chosen rows are: many measures, and many judges, move with length alone."""

from typing import Final

import numpy as np

from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.measure import Measure, Values


def length(measured: Measured) -> Values:
    """Mean, median, and 10th and 90th percentile of the characters of the chosen rows' instruction and input."""
    lengths = measured.lengths[measured.chosen]
    low, median, high = np.percentile(lengths, [10, 50, 90])
    return {
        "length_mean": float(lengths.mean()),
        "length_median": float(median),
        "length_p10": float(low),
        "length_p90": float(high),
    }


LENGTH: Final = Measure(
    name="length",
    better="neither",
    rewards="Nothing: it shows how far another value may come from length alone",
    gamed_by="No way: neither end is better",
    values=("length_mean", "length_median", "length_p10", "length_p90"),
    compute=length,
)
