"""The share of chosen rows that another chosen row nearly repeats."""

from typing import Final

import numpy as np

from selectllm.evaluation.measured import Measured, blocks
from selectllm.evaluation.measures.measure import Measure, Values
from selectllm.ranking.near_duplicates import rounded

LIMIT: Final = 0.95
"""A cosine from which on two rows say nearly the same."""


def near_duplicate_share(measured: Measured) -> Values:
    """The share, 0 to 1, of chosen rows with a cosine of at least `LIMIT` to another chosen row. Takes O(N² d)."""
    found = 0
    for part in blocks(len(measured.chosen)):
        cosines = measured.chosen_vectors[part] @ measured.chosen_vectors.T
        places = np.arange(len(cosines))
        cosines[places, part.start + places] = -1
        found += int((rounded(cosines.max(axis=1)) >= LIMIT).sum())
    return {"near_duplicate_share": found / len(measured.chosen)}


NEAR_DUPLICATES: Final = Measure(
    name="near_duplicates",
    better="lower",
    rewards="Chosen rows that do not say the same",
    gamed_by="Rows just below the limit, and the same task in other words or another language",
    values=("near_duplicate_share",),
    needs=("vectors",),
    compute=near_duplicate_share,
)
