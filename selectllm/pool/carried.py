"""The columns that go along with the rows: their types in Parquet, and their values as they came in.

Parquet knows one type for a column, and JSON one for each value. So a column is typed where all of its file's values
are of one plain type: text, true or false, whole numbers, or numbers. Any other column holds JSON texts, and is marked
as such: lists and objects always, so that no row gets the keys of another one.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.pool.parts import PART_ROWS
from selectllm.pool.records import Column, Records, one_by_one, values
from selectllm.pool.rows import is_missing
from selectllm.schemas import RESERVED
from selectllm.store.tables import to_parquet
from selectllm.text import escape_surrogates, finite, json_text, short_error

Flags: TypeAlias = npt.NDArray[np.bool_]

_MARK: Final = {b"selectllm": b"json"}  # of a field whose texts are JSON
_EXACT: Final = 2**53  # up to here every whole number is also a float
_PLAIN: Final[dict[frozenset[type], pa.DataType]] = {
    frozenset(): pa.null(),
    frozenset({str}): pa.string(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
}
_PLAIN_NUMBERS: Final = (pa.float32(), pa.float64(), pa.int64())  # lists of these, such as vectors, are JSON as well


@dataclass(frozen=True)
class CarriedColumn:
    """A column that goes along: its name and its type in the pool, and the file's values, one for each record."""

    field: pa.Field
    column: Column


def carried_columns(records: Records, mapped: Collection[str | None], taken: Collection[str]) -> list[CarriedColumn]:
    """The file's columns that are not `mapped`, in the file's order.

    A column keeps its name, or is called `source_<name>` where that would clash with one that is `taken`. An Arrow
    column keeps its type; the type of any other is decided by all values of the file.
    """
    clashing, carried = set(taken) | set(RESERVED), [name for name in records.columns if name not in mapped]
    names, used = dict[str, str](), set(clashing)
    # Those that clash come first: `source_id` is the file's `id` then, wherever a `source_id` of its own stands.
    for name in sorted(carried, key=lambda name: escape_surrogates(name) not in clashing):
        names[name] = escape_surrogates(name)
        while names[name] in used:
            names[name] = f"source_{names[name]}"
        used.add(names[name])
    return [CarriedColumn(_field(names[name], records.columns[name]), records.columns[name]) for name in carried]


def carried_parts(columns: Sequence[CarriedColumn], keeps: Iterable[Flags]) -> Iterator[list[pa.ChunkedArray]]:
    """The kept values of columns, of one part of the records after the other.

    `keeps` tell of each part which of its records are kept. A NaN in a column of JSON counts as missing, and is null.
    """
    arrow = {each.field.name: each.column for each in columns if isinstance(each.column, pa.ChunkedArray)}
    others = {each.field.name: one_by_one(each.column) for each in columns if each.field.name not in arrow}
    start = 0
    for keep in keeps:
        flags, part = keep.tolist(), list[pa.ChunkedArray]()
        for field in (each.field for each in columns):
            if field.name in arrow:
                part.append(_kept(field, arrow[field.name].slice(start, len(keep)), keep))
            else:
                kept = compress(islice(others[field.name], len(flags)), flags)
                part.append(_stored(field, kept))
        yield part
        start += len(keep)


def original_values(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    """The values of a stored column as Python values; those of a column of JSON texts as they were in the file."""
    stored = values(column)
    if not is_json(field):
        return stored
    return [None if text is None else json.loads(text) for text in stored]


def check_as_json(schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
    """Check that a pool can be kept and shown as JSON, before anything is paid for rows that cannot be.

    Values of plain types always can, and are passed over. Raises PoolError.
    """
    fields = [field for field in schema if not _is_plain(field.type)]
    for field in fields:
        try:
            to_parquet(pa.table([pa.nulls(0, field.type)], schema=pa.schema([field])))
        except pa.ArrowException as error:
            raise _unfit(field, "cannot be written as Parquet", error) from error
    for table in parts if fields else ():
        for field in fields:
            try:
                for value in original_values(field, table[field.name]):
                    json_text(finite(value))
            except Exception as error:  # of any kind: Arrow's types are many, and packages add more
                raise _unfit(field, "cannot be written as JSON", error) from error


def _is_plain(type_: pa.DataType) -> bool:
    return type_ in _PLAIN.values() or getattr(type_, "value_type", None) in _PLAIN_NUMBERS


def is_json(field: pa.Field) -> bool:
    """Whether a column holds JSON texts in the place of values of several types."""
    return (field.metadata or {}).items() >= _MARK.items()


def _field(name: str, column: Column) -> pa.Field:
    """How a column is stored."""
    if isinstance(column, pa.ChunkedArray):
        return pa.field(name, column.type)
    type_ = _plain_type(column)
    return pa.field(name, pa.string(), metadata=_MARK) if type_ is None else pa.field(name, type_)


def _kept(field: pa.Field, column: pa.ChunkedArray, keep: Flags) -> pa.ChunkedArray:
    try:
        return column.filter(pa.array(keep))
    except pa.ArrowException as error:
        raise _unfit(field, "cannot be divided into rows", error) from error


def _unfit(field: pa.Field, fault: str, error: Exception) -> PoolError:
    """The error about a column of Arrow's that a pool cannot hold."""
    return PoolError(
        f"the column {field.name!r}, of type {field.type}, {fault}: {short_error(error)}. Leave it out of the pool, or "
        "convert it to text"
    )


def _stored(field: pa.Field, values: Iterable[Any]) -> pa.ChunkedArray:
    """Values as a column holds them."""
    present = (None if is_missing(value) else value for value in values)
    if is_json(field):
        present = (None if value is None else json_text(finite(value)) for value in present)
    elif (
        field.type == pa.string()
    ):  # UTF-8 has no lone surrogate: it means nothing here, and is no reason to lose a row
        present = (value and escape_surrogates(value) for value in present)
    stored = pa.array(list(present), field.type)  # in several chunks where it is long
    return stored if isinstance(stored, pa.ChunkedArray) else pa.chunked_array([stored], field.type)


def _plain_type(column: Column) -> pa.DataType | None:
    """The one plain type of all values, None where they have none."""
    types, largest, remaining = set[type](), 0, one_by_one(column)
    while part := list(islice(remaining, PART_ROWS)):
        present = [value for value in part if not is_missing(value)]
        types.update(map(type, present))
        if int in types:
            largest = max([largest, *(abs(value) for value in present if type(value) is int)])
    if largest > (_EXACT if float in types else 2**63 - 1):
        return None
    return _PLAIN.get(frozenset(types))
