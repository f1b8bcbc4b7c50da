"""A file in; a table of its usable and different rows out, with every other row and the reason beside it."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.paths import redact_url
from selectllm.pool.extra_columns import carried_names, carry
from selectllm.pool.formats import parse
from selectllm.pool.judging import Judge
from selectllm.pool.layouts import Columns, ColumnsMissing, Layout, recognise
from selectllm.pool.partition import Partition, partition_rows
from selectllm.pool.records import Records
from selectllm.pool.source import fetch
from selectllm.quality.verdicts import Verdict
from selectllm.schemas import POOL, QUARANTINE
from selectllm.text import one_line

_RECOGNISE: Final = Columns()
_REASONS_SHOWN: Final = 10


@dataclass(frozen=True)
class Pool:
    """A pool as it was read: `rows_read == quarantined + duplicates + table.num_rows`.

    `table` has the columns of schemas.POOL and behind them those carried, in the file's order, with unique ids.
    `quarantine` (schemas.QUARANTINE) holds bad rows and duplicates alike, in the file's order. `layout` says how the
    columns were understood: "instruction", "prompt", "messages" or "columns". `verdict` is what a judge found;
    `refused` is why the file has no usable row, which only a judged pool may live to tell.
    """

    table: pa.Table
    quarantine: pa.Table
    rows_read: int
    quarantined: int
    duplicates: int
    layout: str
    verdict: Verdict | None = None
    refused: str = ""


def read(location: str, columns: Columns = _RECOGNISE, judge: Judge | None = None) -> Pool:
    """Read the pool at a path or URL; rows with the same instruction and input count once.

    `judge` sees every row before any is left out; the rows that it finds fault with are quarantined too. Whether its
    verdict lets a run go on is for the caller to say (Verdict.require, `refusal`).
    Raises PoolError where the file cannot be read or, without a judge, its columns cannot be understood or no row is
    usable; MissingDependency where an optional package is needed to reach it.
    """
    records = parse(fetch(location), location)
    layout, missing, refused = _laid_out(records, columns, location)
    sifted = partition_rows(records, layout, judge, missing)
    if not sifted.rows_by_id:
        refused = refused or _nothing_usable(sifted.faults)
        if judge is None:
            raise refusal(location, refused)
    return Pool(
        table=_table(sifted, _carried(records, layout, sifted) if layout and not refused else {}),
        quarantine=_quarantine(records, sifted.faults | sifted.duplicates),
        rows_read=len(records.rows) + len(records.faults),
        quarantined=len(sifted.faults),
        duplicates=len(sifted.duplicates),
        layout=layout.name if layout else "",
        verdict=sifted.verdict,
        refused=refused,
    )


def refusal(location: str, refused: str, verdict: Verdict | None = None) -> PoolError:
    """The error of a pool that has nothing usable in it, as `Pool.refused` tells."""
    return PoolError(f"{one_line(redact_url(location))} {refused}", verdict)


def _laid_out(records: Records, columns: Columns, location: str) -> tuple[Layout | None, tuple[str, ...], str]:
    """The layout; or None, the columns that are missing for one, and what to say of that."""
    if not records.rows:
        return None, (), ""
    try:
        return recognise(records.columns, columns, one_line(redact_url(location))), (), ""
    except ColumnsMissing as error:
        return None, error.columns, error.fault


def _carried(records: Records, layout: Layout, sifted: Partition) -> dict[str, pa.Array | pa.ChunkedArray]:
    names = carried_names(column for column in records.columns if column not in layout.mapped)
    return {new: carry(records.columns[old], sifted.keep) for old, new in names.items()}


def _table(sifted: Partition, carried: dict[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    own = [
        list(sifted.rows_by_id),
        list(sifted.rows_by_id.values()),
        sifted.instructions,
        sifted.inputs,
        sifted.outputs,
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(own, POOL, strict=True)]
    fields = [pa.field(name, column.type) for name, column in carried.items()]
    return pa.Table.from_arrays([*arrays, *carried.values()], schema=pa.schema([*POOL, *fields]))


def _quarantine(records: Records, reasons: dict[int, str]) -> pa.Table:
    rows = sorted(reasons)
    columns = [rows, [reasons[row] for row in rows], records.texts(rows)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, QUARANTINE, strict=True)]
    return pa.Table.from_arrays(arrays, schema=QUARANTINE)


def _nothing_usable(faults: dict[int, str]) -> str:
    rows = sorted(faults)
    reasons = [f"row {row}: {faults[row]}" for row in rows[:_REASONS_SHOWN]]
    more = [f"and {len(rows) - _REASONS_SHOWN} more"] if len(rows) > _REASONS_SHOWN else []
    return "has no usable row: " + "; ".join([*reasons, *more])
