"""What embeddings must hold to: one finite vector of unit length for each row of the pool, in its order."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.quality.engine import validate_tables
from selectllm.quality.rules import FactTable, Values, allow, between, row_count, table_columns
from selectllm.quality.verdicts import Verdict

NORM_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a vector of float32 numbers may lie."""

_SLICE: Final = 8192  # vectors looked at together, in float64: some 25 MB of 384 dimensions


def validate_embeddings(embeddings: pa.Table, pool: pa.Table, dimension: int | None = None) -> Verdict:
    """Validate a table of the schema EMBEDDINGS; `dimension` is the model's, or else that of the first vector.

    Failing rules are for Verdict.require to raise. Raises ContractError where Great Expectations and the cheap check
    disagree.
    """

    def tables() -> Iterator[FactTable]:
        vector = pa.list_(pa.float32())
        for field in embeddings.schema:  # lists of any length and of any floating type will do
            is_list = pa.types.is_fixed_size_list(field.type) or pa.types.is_list(field.type)
            if field.name == "vector" and is_list and pa.types.is_floating(field.type.value_type):
                vector = field.type
        yield table_columns(embeddings, (pa.field("id", pa.string(), False), pa.field("vector", vector, False)))
        yield embedding_facts(embeddings["vector"], embeddings["id"].to_numpy(), pool["id"].to_numpy(), dimension)

    return validate_tables("embeddings", tables())


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
