"""Agreement: how far two ways to choose put the same rows in the same order."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import kendalltau

from selectllm.evaluation.measures.measure import About, Missing, Values
from selectllm.store.tables import in_order


def agreement_of(first: pa.Table, second: pa.Table, top: int) -> Values:
    """How far two PREFERENCES agree.

    `kendalls_tau`: over the rows that both place, by their places: -1 (reversed) to 1 (the same order), and 0 by
    chance. `top_overlap`: the share of the first `top` rows of one that are among the first `top` of the other, 0 to 1;
    fewer where one of them places fewer.
    """
    one, other = (
        in_order(preferences, ("place", "ascending"))["id"].combine_chunks() for preferences in (first, second)
    )
    values: dict[str, float | Missing] = {"kendalls_tau": Missing("fewer than two rows have a place in both")}
    places = pc.index_in(one, value_set=other).drop_null().to_numpy()
    if len(places) > 1:
        values["kendalls_tau"] = float(kendalltau(np.arange(len(places)), places).statistic)
    count = min(top, len(one), len(other))
    values["top_overlap"] = Missing("one of them places no row")
    if count:
        values["top_overlap"] = len(set(one[:count].to_pylist()) & set(other[:count].to_pylist())) / count
    return values


AGREEMENT: Final = About(
    name="agreement",
    better="neither",
    rewards="Two ways to choose that put rows in the same order",
    gamed_by="What both go by: two that choose by length agree, and neither need be right",
    values=("kendalls_tau", "top_overlap"),
)
