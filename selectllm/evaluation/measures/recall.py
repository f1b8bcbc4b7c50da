"""Recall: how much of what is labelled as worth choosing was chosen."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import UsageError
from selectllm.evaluation.measured import Measured, Numbers
from selectllm.evaluation.measures.measure import Measure, Missing, Values
from selectllm.schemas import own_name


def labels_of(pool: pa.Table, column: str) -> Numbers:
    """The labels (M,) that a column of POOL holds, numbers or booleans; NaN where a row has none.

    Raises UsageError where there is no such column, or it holds something else, infinite numbers among it.
    """
    name = own_name(column, pool.column_names)
    if name not in pool.column_names:
        raise UsageError(f"the pool has no column {column!r} of labels. It has {', '.join(pool.column_names)}")
    values = pool[name]
    if not (pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise UsageError(f"labels are numbers or booleans, and the column {column!r} holds {values.type}")
    found: Numbers = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy()
    if np.isinf(found).any():
        raise UsageError(
            f"the column {column!r} of labels holds infinite numbers: write finite ones, or leave them out"
        )
    return found


def recall(measured: Measured) -> Values:
    """Recall and worth of the chosen rows by the labels.

    `recall`, for labels 0 and 1: the chosen rows of label 1 over all rows of label 1. `worth`: the sum of the chosen
    rows' labels over that of the best as many rows, both counted from the lowest label of the pool; chosen rows without
    a label are left out. Both from 0 to 1.
    """
    assert measured.labels is not None
    known = measured.labels[~np.isnan(measured.labels)]
    chosen = measured.labels[measured.chosen]
    chosen = chosen[~np.isnan(chosen)]
    if not len(known) or known.min() == known.max():
        constant = Missing("all labels are the same" if len(known) else "no row has a label")
        return {"recall": constant, "worth": constant}
    values: dict[str, float | Missing] = {"recall": Missing("the labels are scores, not 0 and 1")}
    if np.isin(known, (0, 1)).all():
        values["recall"] = float(chosen.sum() / known.sum())
    values["worth"] = Missing("no chosen row has a label")
    if len(chosen):
        best = np.sort(known - known.min())[-len(chosen) :]
        values["worth"] = float((chosen - known.min()).sum() / best.sum())
    return values


RECALL: Final = Measure(
    name="recall",
    better="higher",
    rewards="Choosing the rows whose labels are highest",
    gamed_by="Whatever the labels go by, such as length; recall rises with the number of chosen rows by itself",
    values=("recall", "worth"),
    needs=("labels",),
    compute=recall,
)
