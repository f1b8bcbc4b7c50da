"""What every format is read into: the columns of a file, held as lists or as Arrow arrays, and the rows at fault."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.store.values import python_values
from selectllm.text import join_names

Column: TypeAlias = list[Any] | pa.ChunkedArray
Record: TypeAlias = dict[str, Any]

MAX_COLUMNS: Final = 1_000
"""More columns than this are data used as names, and a table of them would fill the memory with nulls."""


@dataclass(frozen=True)
class Records:
    """A file, read but not yet understood.

    `rows` holds the row number of each record; `columns` one value (null where absent) for each record, by name in
    the order of first appearance; `faults` the reason, by row number, for each row that is no record. `texts` takes row
    numbers and gives those rows as they stood in the file. `missing` holds for each record the texts that stand for a
    missing value; it is empty where no format has such texts. `files` are, of a pool of several, the names of the
    files, each with the number of rows before it.
    """

    rows: list[int]
    columns: dict[str, Column]
    faults: dict[int, str]
    texts: Callable[[Sequence[int]], list[str]]
    missing: Sequence[frozenset[str]] = ()
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
    """A column as Python values, as selectllm.store.values gives them."""
    return column if isinstance(column, list) else python_values(column)
