"""What every format is read into: the columns of a file, held as lists or as Arrow arrays, and the rows at fault."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.pool.parts import PART_ROWS, PartedColumn, Spill
from selectllm.store.values import python_values
from selectllm.text import join_names

Column: TypeAlias = Sequence[Any] | pa.ChunkedArray
Record: TypeAlias = dict[str, Any]

NOT_UTF8: Final = "not UTF-8"
"""The fault of a row whose bytes are no text."""

MAX_COLUMNS: Final = 1_000
"""More columns than this are data used as names, and a table of them would fill the memory with nulls."""


class NoRows(PoolError):
    """A file is empty, or has no rows."""


@dataclass(frozen=True)
class Records:
    """A file, read but not yet understood.

    `rows` holds the row number of each record; `columns` one value (null where absent) for each record, by name in the
    order of first appearance; `faults` the reason, by row number, for each row that is no record. `texts` takes row
    numbers in ascending order and gives those rows, one by one, as they stood in the file. `missing` holds for each
    record the texts that stand for a missing value; it is empty where no format has such texts. `files` are, of a pool
    of several, the names of the files, each with the number of rows before it.
    """

    rows: Sequence[int]
    columns: dict[str, Column]
    faults: dict[int, str]
    texts: Callable[[Sequence[int]], Iterable[str]]
    missing: Sequence[frozenset[str]] = ()
    files: tuple[tuple[int, str], ...] = ()


def gather(
    records: Iterable[tuple[int, Record | str]],
    texts: Callable[[Sequence[int]], Iterable[str]],
    location: str,
    spill: Spill,
) -> Records:
    """Turn numbered records into columns, one after the other; a string is a row's fault."""
    rows, faults, columns = array("q"), dict[int, str](), _Columns(spill)
    for row, record in records:
        if isinstance(record, str):
            faults[row] = record
            continue
        rows.append(row)
        columns.add(record)
        if len(columns.part) > MAX_COLUMNS:
            raise PoolError(
                f"{location} has more than {MAX_COLUMNS} columns by row {row}. "
                "Move what varies from row to row out of the names and into the values."
            )
    return Records(rows, columns.whole(), faults, texts)


class _Columns:
    """The columns of records that come one by one: the latest part, and all parts before it."""

    def __init__(self, spill: Spill) -> None:
        self.part: dict[str, list[Any]] = {}
        self._spill = spill
        self._rows = 0  # of the part
        self._before: dict[str, PartedColumn] = {}
        self._rows_before = 0

    def add(self, record: Record) -> None:
        """Add a record; where it has no value, or the others had none, that is null."""
        if self._rows == PART_ROWS:
            self._put_aside()
        part = self.part
        for name, value in record.items():
            if name not in part:
                part[name] = [None] * self._rows
            part[name].append(value)
        self._rows += 1
        if len(record) < len(part):
            for column in part.values():
                if len(column) < self._rows:
                    column.append(None)

    def whole(self) -> dict[str, Column]:
        """All columns."""
        if not self._rows_before:
            return dict(self.part)
        self._put_aside()
        return dict(self._before)

    def _put_aside(self) -> None:
        for name, column in self.part.items():
            if name not in self._before:
                self._before[name] = PartedColumn.of((None for _ in range(self._rows_before)), self._spill)
            self._before[name].append(column)
        self._rows_before += self._rows
        self.part, self._rows = {name: [] for name in self.part}, 0


def refuse_repeated_names(names: Iterable[str], location: str) -> None:
    """Raise PoolError where two columns have one name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise PoolError(f"{location} names columns twice: {join_names(twice)}. Give each column a name of its own.")


def values(column: Column) -> list[Any]:
    """A column as Python values, as selectllm.store.values gives them."""
    if isinstance(column, pa.ChunkedArray):
        return python_values(column)
    return column if isinstance(column, list) else list(column)


def one_by_one(column: Column) -> Iterator[Any]:
    """The values of a column as `values` gives them, without holding all of them."""
    if not isinstance(column, pa.ChunkedArray):
        return iter(column)
    parts = (column.slice(start, PART_ROWS) for start in range(0, len(column), PART_ROWS))
    return (value for part in parts for value in python_values(part))


def in_parts(records: Records, spill: Spill) -> Records:
    """The records with their values put aside, as far as they are Python's."""
    columns = {
        name: PartedColumn.of(column, spill) if isinstance(column, list) else column
        for name, column in records.columns.items()
    }
    return replace(records, columns=columns)
