"""What embeddings must hold to: one finite vector of unit length for each row of the pool, in its order."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.quality.columns import Wanted, judge_columns
from selectllm.quality.engine import Rule, judge
from selectllm.quality.verdicts import Verdict

NORM_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a vector of float32 numbers may lie."""

_SLICE: Final = 8192  # vectors looked at together, in float64: some 25 MB of 384 dimensions

_WANTED: Final[Wanted] = {
    "id": pa.types.is_string,
    "vector": lambda type_: (
        (pa.types.is_fixed_size_list(type_) or pa.types.is_list(type_)) and pa.types.is_floating(type_.value_type)
    ),
}


def judge_embeddings(embeddings: pa.Table, pool: pa.Table, dimension: int | None = None) -> Verdict:
    """Judge a table of the schema EMBEDDINGS; `dimension` is the model's, or else that of the first vector."""
    columns = judge_columns(embeddings, _WANTED)
    if not columns.finding.success:
        return Verdict.of("embeddings", [columns.finding])
    frame = _facts(embeddings, pool)
    wanted = dimension or (int(frame["dimension"].iloc[0]) if len(frame) else 0)
    found = judge(frame, "id", _rules(len(pool), wanted))
    return Verdict.of("embeddings", [columns.finding, *(one.finding for one in found)])


def _rules(rows: int, dimension: int) -> list[Rule]:
    between, in_set = "expect_column_values_to_be_between", "expect_column_values_to_be_in_set"
    return [
        Rule("row_count", "expect_table_row_count_to_equal", {"value": rows}),
        Rule("ids_of_the_pool", in_set, {"column": "in_place", "value_set": [True]}),
        Rule("finite", in_set, {"column": "finite", "value_set": [True]}),  # a norm that is NaN counts as missing below
        Rule(
            "unit_norm", between, {"column": "norm", "min_value": 1 - NORM_TOLERANCE, "max_value": 1 + NORM_TOLERANCE}
        ),
        Rule("dimension", in_set, {"column": "dimension", "value_set": [dimension]}),
    ]


def _facts(embeddings: pa.Table, pool: pa.Table) -> pd.DataFrame:
    norms = _norms(embeddings["vector"])
    ids = embeddings["id"].to_numpy()
    in_place = np.zeros(len(ids), dtype=bool)
    shared = min(len(ids), len(pool))
    in_place[:shared] = ids[:shared] == pool["id"].to_numpy()[:shared]
    return pd.DataFrame(
        {
            "id": ids,
            "in_place": in_place,
            "finite": np.isfinite(norms),
            "norm": norms,
            "dimension": pc.list_value_length(embeddings["vector"]).to_numpy(),
        }
    )


def _norms(vectors: pa.ChunkedArray) -> npt.NDArray[Any]:
    """The length of each vector; not finite where a number of it is not."""
    norms = np.empty(len(vectors))
    for start in range(0, len(vectors), _SLICE):
        part = vectors.slice(start, _SLICE).combine_chunks()
        flat = part.flatten().to_numpy(zero_copy_only=False).astype(float)
        row = np.repeat(np.arange(len(part)), pc.list_value_length(part).to_numpy(zero_copy_only=False))
        norms[start : start + _SLICE] = np.sqrt(np.bincount(row, weights=flat * flat, minlength=len(part)))
    return norms
