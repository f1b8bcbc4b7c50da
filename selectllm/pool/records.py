"""What every format is read into: the columns of a file, held as lists or as Arrow arrays, and the rows at fault."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.text import join_names

Column: TypeAlias = list[Any] | pa.ChunkedArray
Record: TypeAlias = dict[str, Any]

MAX_COLUMNS: Final = 1_000
"""More columns than this are data used as names, and a table of them would fill the memory with nulls."""


_NO_OBJECT: Final = (ValueError, OverflowError, KeyError)  # a date, a name twice, a zone that this machine lacks


@dataclass(frozen=True)
class Records:
    """A file, read but not yet understood.

    `rows` holds the row number of each record; `columns` one value (null where absent) for each record, by name in
    the order of first appearance; `faults` the reason, by row number, for each row that is no record. `texts` takes row
    numbers and gives those rows as they stood in the file. `missing` are the texts that stand for a missing value, in a
    format where all values are texts. `files` are, of a pool of several, the names of the files, each with the number
    of rows before it.
    """

    rows: list[int]
    columns: dict[str, Column]
    faults: dict[int, str]
    texts: Callable[[Sequence[int]], list[str]]
    missing: frozenset[str] = frozenset()
    files: tuple[tuple[int, str], ...] = ()


def gather(
    records: Iterable[tuple[int, Record | str]], texts: Callable[[Sequence[int]], list[str]], location: str
) -> Records:
    """Turn numbered records into columns one by one, without keeping any; a string is a row's fault."""
    rows: list[int] = []
    columns: dict[str, list[Any]] = {}
    faults: dict[int, str] = {}
    for row, record in records:
        if isinstance(record, str):
            faults[row] = record
            continue
        for name, value in record.items():
            if name not in columns:
                columns[name] = [None] * len(rows)
            columns[name].append(value)
        rows.append(row)
        if len(columns) > MAX_COLUMNS:
            raise PoolError(
                f"{location} has more than {MAX_COLUMNS} columns by row {row}. "
                "Move what varies from row to row out of the names and into the values."
            )
        if len(record) < len(columns):
            for column in columns.values():
                if len(column) < len(rows):
                    column.append(None)
    return Records(rows, dict(columns), faults, texts)


def refuse_repeated_names(names: Iterable[str], location: str) -> None:
    """Raise PoolError where two columns have one name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise PoolError(f"{location} names columns twice: {join_names(twice)}. Give each column a name of its own.")


def values(column: Column) -> list[Any]:
    """A column as Python values; text that is not UTF-8, which Parquet does not rule out, as bytes."""
    if isinstance(column, list):
        return column
    try:
        return list(column.to_pylist())
    except _NO_OBJECT:
        return [_python_object(scalar) for scalar in column]


def _python_object(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error.object
    except _NO_OBJECT:
        return _python_text(scalar)


def _python_text(scalar: Any) -> Any:
    """What Python cannot hold, as text: dates after the year 9999, nanoseconds, zones unknown here, names that stand
    twice in a struct. Of a list or a struct only the part that it cannot hold."""
    if pa.types.is_struct(scalar.type):
        names = [field.name for field in scalar.type]
        if len(set(names)) < len(names):
            return repr(scalar)
        return {name: _python_object(scalar[name]) for name in names}
    if pa.types.is_list(scalar.type) or pa.types.is_large_list(scalar.type):
        return [_python_object(item) for item in scalar.values]
    try:
        return scalar.cast(pa.string()).as_py()
    except pa.ArrowException:
        return f"{scalar.value} {scalar.type}"
