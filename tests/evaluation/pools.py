"""Small pools to measure."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from selectllm.evaluation.measured import Measured
from selectllm.queries import Rows, Vectors
from selectllm.schemas import POOL, PREFERENCES


def drawn(rows: int, dimension: int = 4, seed: int = 0) -> Vectors:
    """Vectors of unit length."""
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def pool_of(texts: Sequence[str], outputs: Sequence[str | None] | None = None) -> pa.Table:
    """A pool of instructions; the ids are the rows' numbers."""
    columns = {
        "id": [str(number) for number in range(len(texts))],
        "row": list(range(1, len(texts) + 1)),
        "instruction": list(texts),
        "input": pa.nulls(len(texts), pa.string()),
        "output": pa.array(outputs or [None] * len(texts), pa.string()),
    }
    return pa.table(columns).cast(POOL)


def preferences_of(ids: Sequence[str], scores: Sequence[float | None] | None = None) -> pa.Table:
    """Preferences in this order."""
    columns = {name: pa.nulls(len(ids), PREFERENCES.field(name).type) for name in PREFERENCES.names}
    columns |= {
        "place": pa.array(range(1, len(ids) + 1), pa.int64()),
        "id": pa.array(ids, pa.string()),
        "reason": pa.array(["rank"] * len(ids), pa.string()),
        "score": pa.array(scores or [None] * len(ids), pa.float64()),
    }
    return pa.table(columns).cast(PREFERENCES)


def measured_of(vectors: Vectors, chosen: Sequence[int], texts: Sequence[str] | None = None, seed: int = 0) -> Measured:
    """A selection of rows with these vectors."""
    pool = pool_of(texts or [f"Task {number}" for number in range(len(vectors))])
    return Measured(pool, rows_of(chosen), vectors, seed=seed)


def rows_of(chosen: Sequence[int]) -> Rows:
    """Numbers of rows."""
    return np.array(chosen, dtype=np.int64)
