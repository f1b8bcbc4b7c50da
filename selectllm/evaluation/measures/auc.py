"""AUC: how often the row that is labelled higher stands higher among the preferences, of all pairs of rows.

Length alone can give a high AUC. So it is also measured among rows of about the same length: in five bins of equally
many rows, and over all pairs within one bin.
"""

import math
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import kendalltau

from selectllm.evaluation.measured import Measured, Numbers
from selectllm.evaluation.measures.measure import Measure, Missing, Values
from selectllm.queries import Rows
from selectllm.ranking.diversity import scaled
from selectllm.store.tables import in_order

BINS: Final = 5
"""Bins of length, of equally many rows."""

ALIKE: Final = Missing("no two of these rows have different labels")


def auc(measured: Measured) -> Values:
    """AUC over all labelled rows, within each bin of length (1 is the shortest), and over all pairs within bins.

    Preferences order rows by their scores where all have one and these fall, and by their places elsewhere. Rows of an
    equal score count half. Labels may be 0 and 1, or scores: then pairs of an equal label do not count. O(M log M).
    """
    assert measured.labels is not None
    assert measured.preferences is not None
    rows = np.flatnonzero(~np.isnan(measured.labels))
    scores = _scores(measured.pool, measured.preferences)[rows]
    if np.isnan(scores).any():
        placed = np.isfinite(scores).sum()
        missing = Missing(f"{placed:,} of {len(rows):,} labelled rows have a place among the preferences")
        return dict.fromkeys(AUC.values, missing)
    labels, lengths = measured.labels[rows], measured.lengths[rows]
    found = [concordance(labels, scores), within_bins(labels, scores, lengths)]
    found += [concordance(labels[part], scores[part]) for part in length_bins(lengths)]
    values = (ALIKE if value is None else value for value in found)
    return dict(zip(AUC.values, values, strict=True))


def concordance(labels: Numbers, scores: Numbers) -> float | None:
    """The share of pairs of different labels whose scores differ the same way, where equal scores count half.

    Parameters: labels and scores (n,). For labels 0 and 1 this is the area under the ROC curve. None where no two
    labels differ.
    """
    pairs = _unequal_pairs(labels)
    if pairs == 0:
        return None
    ordered = _unequal_pairs(scores)
    if ordered == 0:
        return 0.5
    # Kendall's tau-b is concordant less discordant pairs, over the root of both numbers of pairs.
    tau = float(kendalltau(labels, scores).statistic)
    difference = round(tau * math.sqrt(pairs * ordered))
    return (1 + difference / pairs) / 2


def within_bins(labels: Numbers, scores: Numbers, lengths: Rows) -> float | None:
    """The concordance over all pairs of rows that are of one bin of length; None where no two labels differ there."""
    parts = length_bins(lengths)
    pairs = [_unequal_pairs(labels[part]) for part in parts]
    if not sum(pairs):
        return None
    shares = (concordance(labels[part], scores[part]) or 0.0 for part in parts)
    return sum(share * count for share, count in zip(shares, pairs, strict=True)) / sum(pairs)


def length_bins(lengths: Rows) -> list[Rows]:
    """Divide rows (n,) into bins of length, the shortest first; sizes differ by at most one, and ties go by number."""
    return np.array_split(np.argsort(lengths, kind="stable"), BINS)


def _unequal_pairs(values: Numbers) -> int:
    counts = np.unique(values, return_counts=True)[1].astype(object)  # Python's integers: no overflow
    return int((len(values) ** 2 - (counts**2).sum()) // 2)


def _scores(pool: pa.Table, preferences: pa.Table) -> Numbers:
    """Scores (M,) by which PREFERENCES order the rows of POOL, the higher the better; NaN for rows without a place."""
    ordered = in_order(preferences, ("place", "ascending"))
    given = ordered["score"]
    numbers = scaled(None if given.null_count else given.to_numpy(), len(ordered))
    places = pc.index_in(pool["id"], value_set=ordered["id"].combine_chunks())
    found = np.full(len(pool), np.nan)
    is_placed = places.is_valid().to_numpy()
    found[is_placed] = numbers[places.drop_null().to_numpy()]
    return found


AUC: Final = Measure(
    name="auc",
    better="higher",
    rewards="Preferring rows whose labels are higher, wherever the budget cuts",
    gamed_by="Whatever the labels go by, such as length: compare the values within bins of length",
    values=("auc", "auc_within_length", *(f"auc_length_bin_{number}" for number in range(1, BINS + 1))),
    needs=("labels", "preferences"),
    compute=auc,
)
