"""The columns that go along with the rows: their types in Parquet, and their values as they came in.

Parquet knows one type for a column, and JSON one for each value. So a column is typed where all of its file's values
are of one plain type: text, true or false, whole numbers, or numbers. Any other column holds JSON texts, and is marked
as such: lists and objects always, so that no row gets the keys of another one.
"""

import json
from collections.abc import Collection
from itertools import compress
from typing import Any, Final

import numpy as np
import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.pool.records import Column, Records, values
from selectllm.pool.rows import is_missing
from selectllm.schemas import RESERVED
from selectllm.text import escape_surrogates, finite, json_text, short_error

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


def append_carried(table: pa.Table, records: Records, mapped: Collection[str | None]) -> pa.Table:
    """Rows of a pool with the file's columns that are not `mapped`, in the file's order.

    A column keeps its name, or is called `source_<name>` where that would clash. An Arrow column keeps its type. A NaN
    in a column of JSON counts as missing, and is null.
    """
    keep = np.isin(np.array(records.rows, dtype=np.int64), table["row"].to_numpy()).tolist()
    for name, column in records.columns.items():
        if name not in mapped:
            new_name = escape_surrogates(name)
            while new_name in RESERVED or new_name in table.column_names:
                new_name = f"source_{new_name}"
            table = table.append_column(*_stored(new_name, column, keep))
    return table


def original_values(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    """The values of a stored column as Python values; those of a column of JSON texts as they were in the file."""
    stored = values(column)
    if not is_json(field):
        return stored
    return [None if text is None else json.loads(text) for text in stored]


def check_as_json(table: pa.Table) -> None:
    """Check that all values of a pool can be written as JSON, before anything is paid for rows that cannot be shown.

    Values of plain types always can, and are passed over. Raises PoolError.
    """
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.type not in _PLAIN.values() and getattr(field.type, "value_type", None) not in _PLAIN_NUMBERS:
            try:
                for value in original_values(field, column):
                    json_text(finite(value))
            except Exception as error:  # of any kind: Arrow's types are many, and packages add more
                raise PoolError(
                    f"the column {field.name!r}, of type {field.type}, cannot be written as JSON: "
                    f"{short_error(error)}. Leave it out of the pool, or convert it to text"
                ) from error


def is_json(field: pa.Field) -> bool:
    """Whether a column holds JSON texts in the place of values of several types."""
    return (field.metadata or {}).items() >= _MARK.items()


def _stored(name: str, column: Column, keep: list[bool]) -> tuple[pa.Field, pa.Array | pa.ChunkedArray]:
    """The field and the kept values of a column; its type is decided by all values of the file."""
    if isinstance(column, pa.ChunkedArray):
        return pa.field(name, column.type), column.filter(pa.array(keep, pa.bool_()))
    present = [None if is_missing(value) else value for value in column]
    kept = list(compress(present, keep))
    type_ = _plain_type(present)
    if type_ is None:
        texts = [None if value is None else json_text(finite(value)) for value in kept]
        return pa.field(name, pa.string(), metadata=_MARK), pa.array(texts, pa.string())
    if type_ == pa.string():  # UTF-8 has no lone surrogate: it means nothing here, and is no reason to lose a row
        kept = [value and escape_surrogates(value) for value in kept]
    return pa.field(name, type_), pa.array(kept, type_)


def _plain_type(present: list[Any]) -> pa.DataType | None:
    """The one plain type of all values, None where they have none."""
    types = frozenset(map(type, present)) - {type(None)}
    if int in types:
        largest = max(abs(value) for value in present if type(value) is int)
        if largest > (_EXACT if float in types else 2**63 - 1):
            return None
    return _PLAIN.get(types)
