"""Overlap: how many rows two selections of one pool have in common, and how many they would have by chance."""

from collections.abc import Collection
from typing import Final

import numpy as np
from scipy.stats import hypergeom

from selectllm.errors import ContractError
from selectllm.evaluation.measures.measure import About, Missing, Values


def overlap_of(first: Collection[str], second: Collection[str], pool_rows: int) -> Values:
    """How far two selections agree.

    Parameters: the ids of the rows of both, and how many rows the pool has that both were chosen from. `jaccard`: the
    rows that both have over the rows that either has, 0 to 1. `jaccard_to_chance`: this over the mean of what two
    independent draws of these sizes give; 1 is chance. Raises ContractError for more rows than the pool has.
    """
    one, other = set(first), set(second)
    if max(len(one), len(other)) > pool_rows:
        raise ContractError(f"a pool of {pool_rows:,} rows has no selection of {max(len(one), len(other)):,}")
    union = len(one | other)
    if not union:
        return dict.fromkeys(OVERLAP.values, Missing("both selections are empty"))
    jaccard = len(one & other) / union
    chance = jaccard_by_chance(len(one), len(other), pool_rows)
    ratio = jaccard / chance if chance else Missing("a selection is empty")
    return {"jaccard": jaccard, "jaccard_to_chance": ratio}


def jaccard_by_chance(first: int, second: int, pool_rows: int) -> float:
    """The mean Jaccard index of two independent draws of so many rows: their common rows are hypergeometric."""
    common = np.arange(max(0, first + second - pool_rows), min(first, second) + 1)
    probabilities = hypergeom(pool_rows, first, second).pmf(common)
    return float((probabilities * common / (first + second - common)).sum())


OVERLAP: Final = About(
    name="overlap",
    better="neither",
    rewards="Two selections that have the same rows",
    gamed_by="Large selections of a small pool, which overlap by chance: compare the ratio to chance",
    values=("jaccard", "jaccard_to_chance"),
)
