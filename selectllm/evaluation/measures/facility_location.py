"""Facility location: how near the chosen rows are to all rows."""

from typing import Final

from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.measure import Measure, Values


def facility_location(measured: Measured) -> Values:
    """The mean, over all rows of the pool, of the highest cosine to a chosen row: -1 to 1. Takes O(M N d)."""
    return {"facility_location": float(measured.cover.mean())}


FACILITY_LOCATION: Final = Measure(
    name="facility_location",
    better="higher",
    rewards="Chosen rows that are near to all rows of the pool",
    gamed_by="Rows of the middle of each crowd: rare rows count for little, and the quality of rows for nothing",
    values=("facility_location",),
    needs=("vectors",),
    compute=facility_location,
)
