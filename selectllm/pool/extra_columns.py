"""The columns that mean nothing here, and go along to the selection."""

from collections.abc import Collection, Sequence
from itertools import compress
from typing import Any, Final

import pyarrow as pa

from selectllm.pool.records import Column, Records
from selectllm.schemas import RESERVED
from selectllm.text import escape_surrogates, json_text, map_strings

_MAX_FIELDS: Final = 100  # an object with more keys than this is a mapping, not a structure
_MAX_LEVELS: Final = 16  # Parquet's readers stop following a schema somewhere beyond


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
