"""What the page knows of every row of the pool: which were chosen, how long they are, and where they stand."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.report.page.source import RunSource


@dataclass(frozen=True)
class PoolFacts:
    """Of all M rows of the pool, in its order: `ids`, the `numbers` of the rows, the `lengths` of their texts in
    characters (instruction and input), and whether each was `chosen`."""

    ids: pa.StringArray
    numbers: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.bool_]


def read_pool_facts(source: RunSource, chosen: pa.Array) -> PoolFacts | None:
    """Read the pool once, without keeping its texts; None where the store no longer has it."""
    if not source.has("pool", "id", "row", "instruction", "input"):
        return None
    ids, numbers, lengths, marks = [], [], [], []
    for batch in source.batches("pool", "id", "row", "instruction", "input"):
        ids.append(batch["id"])
        numbers.append(batch["row"].to_numpy())
        lengths.append(_length(batch["instruction"]) + _length(batch["input"]))
        marks.append(is_in(batch["id"], chosen))
    return PoolFacts(
        pa.concat_arrays(ids) if ids else pa.array([], pa.string()),
        np.concatenate([np.empty(0, np.int64), *numbers]),
        np.concatenate([np.empty(0, np.int64), *lengths]),
        np.concatenate([np.empty(0, bool), *marks]),
    )


def texts_of(source: RunSource, ids: Collection[str]) -> dict[str, tuple[int, str]]:
    """The numbers and the instructions of a few rows, by id."""
    wanted, found = pa.array(ids, pa.string()), dict[str, tuple[int, str]]()
    if ids and source.has("pool", "id", "row", "instruction"):
        for batch in source.batches("pool", "id", "row", "instruction"):
            for row in batch.filter(pc.is_in(batch["id"], value_set=wanted)).to_pylist():
                found[row["id"]] = row["row"], row["instruction"]
    return found


def is_in(values: pa.Array, among: pa.Array) -> npt.NDArray[np.bool_]:
    """Whether each value is among others."""
    found: npt.NDArray[np.bool_] = pc.is_in(values, value_set=among).to_numpy(zero_copy_only=False)
    return found


def _length(texts: pa.Array) -> npt.NDArray[np.int64]:
    lengths: npt.NDArray[np.int64] = pc.fill_null(pc.utf8_length(texts), 0).to_numpy().astype(np.int64)
    return lengths
