"""Several files read as one: the rows of each behind those of the one before, and where each row came from."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Final

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.pool.parts import PART_ROWS, PartedColumn, Spill
from selectllm.pool.records import MAX_COLUMNS, Column, Records, one_by_one

ORIGIN: Final = ("pool_file", "pool_row")
"""Columns that say where a row of a pool of several files came from: the file's name, and its row there."""

ORIGIN_FIELDS: Final = (pa.field(ORIGIN[0], pa.string()), pa.field(ORIGIN[1], pa.int64()))


def join_records(parts: Sequence[tuple[str, Records]], location: str, spill: Spill) -> Records:
    """The records of several files, by their names, as those of one; rows are numbered on from file to file."""
    starts: list[int] = []
    rows = array("q")
    faults: dict[int, str] = {}
    for _, records in parts:
        starts.append(start := max([0, *rows[-1:], *list(faults)[-1:]]))
        rows.extend(start + row for row in records.rows)
        faults |= {start + row: records.faults[row] for row in sorted(records.faults)}

    readers = [records.texts for _, records in parts]  # not the records: these hold the values of all files

    def texts(wanted: Sequence[int]) -> Iterator[str]:
        of_part = [bisect_right(starts, row - 1) - 1 for row in wanted]
        for part, read in enumerate(readers):
            low, high = bisect_left(of_part, part), bisect_right(of_part, part)
            yield from read([row - starts[part] for row in wanted[low:high]])

    names = list(dict.fromkeys(name for _, records in parts for name in records.columns))
    if len(names) > MAX_COLUMNS:
        raise PoolError(
            f"the files of {location} have more than {MAX_COLUMNS} columns. Name those that belong together."
        )
    columns = {
        name: _joined([(records.columns.get(name), len(records.rows)) for _, records in parts], spill) for name in names
    }
    missing: list[frozenset[str]] = []
    if any(records.missing for _, records in parts):
        for _, records in parts:
            missing += records.missing or [frozenset()] * len(records.rows)
    files = tuple((start, name) for start, (name, _) in zip(starts, parts, strict=True))
    return Records(rows, columns, faults, texts, missing, files)


def with_origins(table: pa.Table, records: Records) -> pa.Table:
    """A table of rows with the columns ORIGIN, where the pool is of several files."""
    if not records.files:
        return table
    starts, rows = [start for start, _ in records.files], table["row"].to_pylist()
    parts = [bisect_right(starts, row - 1) - 1 for row in rows]
    names = pa.array([records.files[part][1] for part in parts], pa.string())
    numbers = pa.array([row - starts[part] for part, row in zip(parts, rows, strict=True)], pa.int64())
    return table.append_column(ORIGIN[0], names).append_column(ORIGIN[1], numbers)


def _joined(parts: Sequence[tuple[Column | None, int]], spill: Spill) -> Column:
    """A column of all files; of Arrow's type where all files that have it agree on one."""
    types = {column.type if isinstance(column, pa.ChunkedArray) else None for column, _ in parts if column is not None}
    type_ = types.pop()
    if type_ is not None and not types:
        pieces = (pa.nulls(rows, type_) if column is None else column for column, rows in parts)
        chunks = (piece.chunks if isinstance(piece, pa.ChunkedArray) else [piece] for piece in pieces)
        return pa.chunked_array([chunk for several in chunks for chunk in several], type_)
    values = (repeat(None, rows) if column is None else column for column, rows in parts)
    if sum(rows for _, rows in parts) <= PART_ROWS:
        return [value for column in values for value in one_by_one(column)]
    joined = PartedColumn(spill)
    for column in values:
        joined.extend(one_by_one(column) if isinstance(column, pa.ChunkedArray) else column)
    return joined
