"""What every format is read into: the columns of a file, held as lists or as Arrow arrays, and the rows at fault."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Final, TypeAlias

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.schemas import RESERVED
from selectllm.text import escape_surrogates, join_names, json_text, map_strings

Column: TypeAlias = list[Any] | pa.ChunkedArray
Record: TypeAlias = dict[str, Any]

MAX_COLUMNS: Final = 1_000
"""More columns than this are data used as names, and a table of them would fill the memory with nulls."""

_MAX_FIELDS: Final = 100  # an object with more keys than this is a mapping, not a structure
_MAX_LEVELS: Final = 16  # Parquet's readers stop following a schema somewhere beyond


@dataclass(frozen=True)
class Records:
    """A file, read but not yet understood.

    `rows` holds the row number of each record; `columns` one value (null where absent) for each record, by name in
    the order of first appearance; `faults` the reason, by row number, for each row that is no record. `texts` takes row
    numbers and gives those rows as they stood in the file.
    """

    rows: list[int]
    columns: dict[str, Column]
    faults: dict[int, str]
    texts: Callable[[Sequence[int]], list[str]]


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
    except ValueError:
        return [_python_object(scalar) for scalar in column]


def _python_object(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error.object
    except ValueError:  # what Python cannot hold, such as nanoseconds or a struct with a name twice
        return repr(scalar)


def append_extra_columns(table: pa.Table, records: Records, mapped: Collection[str | None]) -> pa.Table:
    """Rows of a pool with the file's columns that are not `mapped`, in the file's order.

    A column keeps its name, or is called `source_<name>` where that would clash.
    """
    rows = set(table["row"].to_pylist())
    keep = [row in rows for row in records.rows]
    for name, column in records.columns.items():
        if name not in mapped:
            new_name = escape_surrogates(name)
            while new_name in RESERVED or new_name in table.column_names:
                new_name = f"source_{new_name}"
            table = table.append_column(new_name, _kept(column, keep))
    return table


def _kept(column: Column, keep: Sequence[bool]) -> pa.Array | pa.ChunkedArray:
    """The kept values of a column: of Arrow's type where it has one, else of the type that all of them share.

    Where values share no type that Parquet can hold, each becomes its JSON text.
    """
    if isinstance(column, pa.ChunkedArray):
        return column.filter(pa.array(keep, pa.bool_()))
    values = list(compress(column, keep))
    if (typed := _typed(values)) is not None:
        return typed
    return pa.array([None if value is None else json_text(value) for value in values], pa.string())


def _typed(values: list[Any]) -> pa.Array | pa.ChunkedArray | None:
    try:
        shared = pa.infer_type(values)
        return pa.array(values, shared) if _is_storable(shared) else None
    except UnicodeEncodeError:  # a lone surrogate: a value that means nothing here is no reason to lose a row
        return _typed(map_strings(values, escape_surrogates))
    except (pa.ArrowException, OverflowError):  # mixed types, or a number beyond 64 bits
        return None


def _is_storable(type_: pa.DataType, levels: int = _MAX_LEVELS) -> bool:
    fields = [type_.field(index).type for index in range(type_.num_fields)]
    if pa.types.is_struct(type_) and not 0 < len(fields) <= _MAX_FIELDS:
        return False
    return levels > 0 and all(_is_storable(field, levels - 1) for field in fields)
