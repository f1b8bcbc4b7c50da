"""The Vendi score: how many different rows the chosen ones amount to.

Source: Friedman and Dieng, The Vendi Score: A Diversity Evaluation Metric for Machine Learning, arXiv 2210.02410.
"""

from typing import Final

import numpy as np
from scipy.special import entr
from threadpoolctl import threadpool_limits

from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.measure import Measure, Values


def vendi(measured: Measured) -> Values:
    """The exponential of the entropy of the eigenvalues of the cosines over N: from 1 to N, and at most d.

    The matrix (N, N) of cosines and the matrix (d, d) of sums of products have the same eigenvalues, but for zeros: the
    smaller of both is taken.
    """
    vectors = measured.chosen_vectors.astype(np.float64)
    rows, dimension = vectors.shape
    products = vectors.T @ vectors if rows > dimension else vectors @ vectors.T
    with threadpool_limits(1):  # with several threads the last bits differ, and small matrices take longer
        eigenvalues = np.linalg.eigvalsh(products).clip(0)
    return {"vendi": float(np.exp(entr(eigenvalues / eigenvalues.sum()).sum()))}


VENDI: Final = Measure(
    name="vendi",
    better="higher",
    rewards="Chosen rows that are unlike each other: as many directions as there can be, all equally strong",
    gamed_by="Choosing outliers and damaged rows; it does not look at the rest of the pool",
    values=("vendi",),
    needs=("vectors",),
    compute=vendi,
)
