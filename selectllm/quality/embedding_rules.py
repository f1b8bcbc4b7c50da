"""What embeddings must hold to: one finite vector of unit length for each row of the pool, in its order."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.quality.columns import Expected, of_type, table_columns
from selectllm.quality.engine import validate
from selectllm.quality.numpy_forms import Values
from selectllm.quality.rules import FactTable, allow, between, row_count
from selectllm.quality.verdicts import Verdict

NORM_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a vector of float32 numbers may lie."""

_SLICE: Final = 8192  # vectors looked at together, in float64: some 25 MB of 384 dimensions

_EXPECTED: Final[Expected] = {
    "id": of_type(pa.types.is_string),
    "vector": of_type(
        lambda type_: (
            (pa.types.is_fixed_size_list(type_) or pa.types.is_list(type_)) and pa.types.is_floating(type_.value_type)
        )
    ),
}


def validate_embeddings(embeddings: pa.Table, pool: pa.Table, dimension: int | None = None) -> Verdict:
    """Validate a table of the schema EMBEDDINGS; `dimension` is the model's, or else that of the first vector.

    Failing rules are for Verdict.require to raise. Raises ContractError where Great Expectations and the cheap check
    disagree.
    """
    findings = validate(table_columns(embeddings, _EXPECTED))
    if all(finding.success for finding in findings):
        ids, pool_ids = embeddings["id"].to_numpy(), pool["id"].to_numpy()
        findings += validate(embedding_facts(embeddings["vector"], ids, pool_ids, dimension))
    return Verdict.of("embeddings", findings)


def embedding_facts(vectors: pa.ChunkedArray, ids: Values, pool_ids: Values, dimension: int | None = None) -> FactTable:
    """The facts about vectors, which stand under `ids`, and their rules."""
    norms, dimensions = _norms(vectors), pc.list_value_length(vectors).to_numpy()
    in_place = np.zeros(len(ids), dtype=bool)
    shared = min(len(ids), len(pool_ids))
    in_place[:shared] = ids[:shared] == pool_ids[:shared]
    columns = {"id": ids, "in_place": in_place, "finite": np.isfinite(norms), "norm": norms, "dimension": dimensions}
    low, high = 1 - NORM_TOLERANCE, 1 + NORM_TOLERANCE
    expected = dimension or (int(dimensions[0]) if len(dimensions) else 0)
    rules = (
        row_count(len(pool_ids), reason=f"{len(ids)} vectors for {len(pool_ids)} rows"),
        allow("ids_of_the_pool", "in_place", True, reason="vectors are not in the place of their rows"),
        allow("finite", "finite", True, reason="vectors are not finite"),
        between("unit_norm", "norm", low=low, high=high, reason="vectors are not of unit length"),
        allow("dimension", "dimension", expected, reason=f"vectors have not {expected} numbers"),
    )
    return FactTable("id", columns, rules)


def _norms(vectors: pa.ChunkedArray) -> Values:
    """The length of each vector; not finite where a number of it is not."""
    norms = np.empty(len(vectors))
    for start in range(0, len(vectors), _SLICE):
        part = vectors.slice(start, _SLICE).combine_chunks()
        flat = part.flatten().to_numpy(zero_copy_only=False).astype(float)
        row = np.repeat(np.arange(len(part)), pc.list_value_length(part).to_numpy(zero_copy_only=False))
        norms[start : start + _SLICE] = np.sqrt(np.bincount(row, weights=flat * flat, minlength=len(part)))
    return norms
