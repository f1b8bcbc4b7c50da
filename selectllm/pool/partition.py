"""The rows of a file, divided into those to keep, those at fault and duplicates of those kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pydantic import BaseModel

from selectllm.errors import PoolError
from selectllm.paths import redact_url
from selectllm.pool.parse import ParsedPool
from selectllm.pool.records import Records
from selectllm.schemas import QUARANTINE
from selectllm.text import one_line

_REASONS_SHOWN: Final = 10


@dataclass(frozen=True)
class Pool:
    """A pool, ready for use: `rows_read == quarantined + duplicates + table.num_rows`.

    `table` has the columns of schemas.POOL and behind them the file's further columns, in the file's order, with
    unique ids. `quarantine` (schemas.QUARANTINE) holds bad rows and duplicates alike, in the file's order. `layout`
    says how the columns were understood: "instruction", "prompt", "messages" or "columns". `refused` says why the file
    has no usable row; it is empty where there is one.
    """

    table: pa.Table
    quarantine: pa.Table
    rows_read: int
    quarantined: int
    duplicates: int
    layout: str
    refused: str = ""


def partition(parsed: ParsedPool, reasons: Mapping[int, str]) -> Pool:
    """Divide the rows of a file; of rows with the same id, the first that has no fault is kept.

    `reasons` says by row number why further rows are to be quarantined.
    """
    faults = {**parsed.faults, **reasons}
    kept, duplicates = _kept(parsed.table, faults)
    table = parsed.table.filter(pa.array(kept, pa.bool_()))
    refused = "" if table.num_rows else parsed.refused or _no_usable_row(faults)
    if not refused:
        next_kept = iter(kept)
        keep = [usable and next(next_kept) for usable in parsed.is_usable]
        for name, column in parsed.extra_columns(keep).items():
            table = table.append_column(pa.field(name, column.type), column)
    return Pool(
        table=table,
        quarantine=_quarantine(parsed.records, faults | duplicates),
        rows_read=len(parsed.records.rows) + len(parsed.records.faults),
        quarantined=len(faults),
        duplicates=len(duplicates),
        layout=parsed.layout.name if parsed.layout else "",
        refused=refused,
    )


def refusal(location: str, refused: str, evidence: BaseModel | None = None) -> PoolError:
    """The error of a pool that has nothing usable in it, for the reason that `Pool.refused` gives."""
    return PoolError(f"{one_line(redact_url(location))} {refused}", evidence)


def _kept(table: pa.Table, faults: Mapping[int, str]) -> tuple[list[bool], dict[int, str]]:
    """Whether each row of the table is kept, and the reason, by row number, for each one that is a duplicate."""
    first_rows: dict[str, int] = {}
    kept: list[bool] = []
    duplicates: dict[int, str] = {}
    for row, id in zip(table["row"].to_pylist(), table["id"].to_pylist(), strict=True):
        is_kept = row not in faults and first_rows.setdefault(id, row) == row
        kept.append(is_kept)
        if not is_kept and row not in faults:
            duplicates[row] = f"duplicate of row {first_rows[id]}"
    return kept, duplicates


def _quarantine(records: Records, reasons: Mapping[int, str]) -> pa.Table:
    rows = sorted(reasons)
    columns = [rows, [reasons[row] for row in rows], records.texts(rows)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, QUARANTINE, strict=True)]
    return pa.Table.from_arrays(arrays, schema=QUARANTINE)


def _no_usable_row(faults: Mapping[int, str]) -> str:
    rows = sorted(faults)
    reasons = [f"row {row}: {faults[row]}" for row in rows[:_REASONS_SHOWN]]
    more = [f"and {len(rows) - _REASONS_SHOWN} more"] if len(rows) > _REASONS_SHOWN else []
    return "has no usable row: " + "; ".join([*reasons, *more])
