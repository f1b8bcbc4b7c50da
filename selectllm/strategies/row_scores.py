"""From what a model said of single rows to preferences."""

import math
from collections.abc import Sequence

import pyarrow as pa

from selectllm.selection import as_preferences
from selectllm.store.tables import in_order


def scores_by_row(ratings: pa.Table, dimensions: Sequence[str]) -> pa.Table:
    """`id`, `score` and `reply` of each row of ROW_RATINGS that has all dimensions; the score is their product."""
    scores: dict[str, dict[str, tuple[float, str]]] = {}
    columns = (ratings[name].to_pylist() for name in ("id", "dimension", "score", "reply"))
    for id, dimension, score, reply in zip(*columns, strict=True):
        scores.setdefault(id, {})[dimension] = score, reply
    whole = {id: [of[name] for name in dimensions] for id, of in scores.items() if of.keys() >= set(dimensions)}
    return pa.table(
        {
            "id": pa.array(whole, pa.string()),
            "score": pa.array([math.prod(score for score, _ in of) for of in whole.values()], pa.float64()),
            "reply": pa.array([",".join(reply for _, reply in of) for of in whole.values()], pa.string()),
        }
    )


def best_first(rows: pa.Table, reason: str) -> pa.Table:
    """Rows with `id` and `score` as PREFERENCES, the highest score first; equal scores by id."""
    rows = in_order(rows, ("score", "descending"), ("id", "ascending"))
    return as_preferences(rows.append_column("reason", pa.array([reason] * len(rows), pa.string())))
