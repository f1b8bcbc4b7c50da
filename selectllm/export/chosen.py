"""The rows that a run chose, as the store has kept them."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import StoreError
from selectllm.pool import Columns
from selectllm.pool.json_lines import original_rows
from selectllm.schemas import SELECTION
from selectllm.store import Store
from selectllm.store.runs import RunRecord, load_run

OWN: Final = (*SELECTION.names, "reason")
"""The columns of a selection that are SelectLLM's; all others are carried from the pool."""


@dataclass(frozen=True)
class Chosen:
    """A run's selection: SELECTION, `reason` behind `picked_by` where the run has reasons, and the carried columns.

    Without the column `output` where no row has one.
    """

    store: Store = field(repr=False)
    record: RunRecord
    table: pa.Table = field(repr=False)

    @property
    def carried(self) -> list[str]:
        """The names of the columns that came along from the pool."""
        return [name for name in self.table.column_names if name not in OWN]

    @property
    def columns(self) -> Columns:
        """How the run was told to read the pool's columns and turns."""
        named = self.record.settings.get("columns") or {}
        return Columns(**{name: named[name] for name in ("turn", "role_map") if name in named})

    def rows(self) -> list[dict[str, Any]]:
        """The rows in order, their carried values as they stood in the pool's file."""
        return original_rows(self.table)

    def vectors(self) -> np.ndarray | None:
        """The rows' vectors in order, float32, None where the run has none; raises StoreError when they are gone."""
        embeddings = self.record.artifact("embeddings")
        if embeddings is None:
            return None
        table = self.store.read(embeddings)
        rows = pc.index_in(self.table["id"], value_set=table["id"].combine_chunks())
        vectors = table["vector"].take(rows).combine_chunks()
        return np.asarray(vectors.flatten(), np.float32).reshape(len(rows), -1)


def read_chosen(store: Store, run: str | None = None) -> Chosen:
    """The rows that a run chose, by default the latest.

    Raises UsageError when there is no such run, StoreError when its selection is gone or damaged.
    """
    record = load_run(store, run)
    selection = record.artifact("selection")
    if selection is None:
        raise StoreError(f"run {record.run} has no selection in its record: name another with --run")
    table = store.read(selection)
    if table["output"].null_count == len(table):
        table = table.drop_columns("output")
    if reasons := record.artifact("reasons"):
        given = store.read(reasons)
        texts = given["reason"].take(pc.index_in(table["id"], value_set=given["id"].combine_chunks()))
        table = table.add_column(table.column_names.index("picked_by") + 1, "reason", texts)
    return Chosen(store, record, table)
