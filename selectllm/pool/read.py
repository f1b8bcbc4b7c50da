"""A file in; a table of its usable and different rows out, with every other row and the reason beside it."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.locations import bare
from selectllm.pool.carry import carried_names, carry
from selectllm.pool.formats import parse
from selectllm.pool.judging import Judge
from selectllm.pool.layouts import Columns, recognise
from selectllm.pool.records import Records
from selectllm.pool.sift import Sifted, sift
from selectllm.pool.source import fetch
from selectllm.pool.wording import one_line
from selectllm.schemas import POOL, QUARANTINE
from selectllm.verdict import Verdict

_RECOGNISE: Final = Columns()
_REASONS_SHOWN: Final = 10


@dataclass(frozen=True)
class Pool:
    """A pool as it was read: `rows_read == quarantined + duplicates + table.num_rows`.

    `table` has the columns of schemas.POOL and behind them those carried, in the file's order, with unique ids.
    `quarantine` (schemas.QUARANTINE) holds bad rows and duplicates alike, in the file's order. `layout` says how the
    columns were understood: "instruction", "prompt", "messages" or "columns". `verdict` is what a judge found.
    """

    table: pa.Table
    quarantine: pa.Table
    rows_read: int
    quarantined: int
    duplicates: int
    layout: str
    verdict: Verdict | None = None


def read(location: str, columns: Columns = _RECOGNISE, judge: Judge | None = None) -> Pool:
    """Read the pool at a path or URL; rows with the same instruction and input count once.

    `judge` sees every row before any is left out; the rows that it finds fault with are quarantined too. Whether its
    verdict lets a run go on is for the caller to say (Verdict.require).
    Raises PoolError where the file cannot be read, its columns cannot be understood or no row is usable, and
    MissingDependency where an optional package is needed to reach it.
    """
    records = parse(fetch(location), location)
    name = one_line(bare(location))
    if not records.rows:
        raise PoolError(_nothing_usable(name, records.faults))
    layout = recognise(records.columns, columns, name)
    sifted = sift(records, layout, judge)
    if not sifted.rows_by_id:
        raise PoolError(_nothing_usable(name, sifted.faults))
    carried = carried_names(column for column in records.columns if column not in layout.mapped)
    return Pool(
        table=_table(sifted, {new: carry(records.columns[old], sifted.keep) for old, new in carried.items()}),
        quarantine=_quarantine(records, sifted.faults | sifted.duplicates),
        rows_read=len(records.rows) + len(records.faults),
        quarantined=len(sifted.faults),
        duplicates=len(sifted.duplicates),
        layout=layout.name,
        verdict=sifted.verdict,
    )


def _table(sifted: Sifted, carried: dict[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
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


def _nothing_usable(name: str, faults: dict[int, str]) -> str:
    rows = sorted(faults)
    reasons = [f"row {row}: {faults[row]}" for row in rows[:_REASONS_SHOWN]]
    more = [f"and {len(rows) - _REASONS_SHOWN} more"] if len(rows) > _REASONS_SHOWN else []
    return f"{name} has no usable row: " + "; ".join([*reasons, *more])
