"""The k-center radius: how far the worst covered row is from the chosen rows.

Source: Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, 2018.
"""

from typing import Final

import numpy as np

from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.measure import Measure, Values


def k_center_radius(measured: Measured) -> Values:
    """The largest Euclidean distance, 0 to 2, of a row's vector to the nearest chosen row's. Takes O(M N d)."""
    return {"k_center_radius": float(np.sqrt(2 - 2 * measured.cover.min()))}


K_CENTER: Final = Measure(
    name="k_center",
    better="lower",
    rewards="Leaving no row of the pool far from all chosen rows",
    gamed_by="Choosing outliers: one damaged or foreign row of the pool can decide the value",
    values=("k_center_radius",),
    needs=("vectors",),
    compute=k_center_radius,
)
