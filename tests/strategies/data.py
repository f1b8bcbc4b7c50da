"""Small pools as arrays, and a strategy run on one without a store."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from selectllm.queries import Vectors
from selectllm.strategies import load_strategy
from selectllm.strategies.strategy import Choice


def drawn(rows: int, seed: int = 0, dimension: int = 4) -> Vectors:
    """Vectors of unit length."""
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def on_circle(*degrees: float) -> Vectors:
    """Vectors of unit length in the plane, by their angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def choice_of(vectors: Vectors, wanted: int, excluded: tuple[int, ...] = (), seed: int = 0, **fields: Any) -> Any:
    """A choice among rows whose ids are their numbers; `order`, in which they stand in the pool; `texts`, if any."""
    order = fields.get("order", range(len(vectors)))
    texts = fields.get("texts", [f"row {row}" for row in range(len(vectors))])
    ids = [f"{row:032x}" for row in order]
    out = {f"{row:032x}" for row in excluded}
    columns = {"id": ids, "instruction": [texts[row] for row in order], "input": pa.nulls(len(ids), pa.string())}
    noted: list[tuple[str, int, int]] = []
    allowed = np.array([place for place, id in enumerate(ids) if id not in out], dtype=np.int64)
    return SimpleNamespace(
        pool=pa.table(columns),
        vectors=vectors[np.array(order, dtype=np.int64)],
        excluded=out,
        allowed=allowed,
        wanted=min(wanted, len(allowed)),
        seed=seed,
        noted=noted,
        context=SimpleNamespace(progress=lambda *values: noted.append(values)),
    )


def named(name: str, choice: Choice) -> list[int]:
    """The numbers of the rows that a strategy names, in order."""
    return [int(id, 16) for id in load_strategy(name).prefer(choice)["id"].to_pylist()]
