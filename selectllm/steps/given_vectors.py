"""Vectors that the user gives instead of a model: a file that names rows by `id`, or a column of the pool itself."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm import pool
from selectllm.errors import PoolError
from selectllm.paths import redact_url
from selectllm.pool.carried import original_values
from selectllm.pool.formats import suffix_of
from selectllm.pool.records import Column, Records, values
from selectllm.queries import Rows, Vectors
from selectllm.schemas import own_name
from selectllm.store import digest
from selectllm.text import join_names, one_line

CODE_VERSION: Final = 1
"""Raise it when the same numbers are to become another vector."""

NAMES: Final = ("vector", "embedding", "embeddings")
"""What the column of vectors may be called in a file that has several columns of lists."""

_SLICE: Final = 8192  # vectors that are looked at together, in float64
_ADVICE: Final = "Every row needs a list of finite numbers, all lists of one length, and none of zeros alone"


def is_file(given: str) -> bool:
    """Whether the option --embeddings names a file, by a format at its end, and not a column of the pool."""
    return suffix_of(given) is not None


def source_digest(given: str) -> str:
    """A digest of what decides the vectors beside the rows themselves: a file's content, or a column's name."""
    return digest(CODE_VERSION, pool.fetch(given).digest if is_file(given) else given)


def given_vectors(given: str, rows: pa.Table, beside: pa.Table | None = None) -> Vectors:
    """The vectors (M, d), float32, of rows of a pool or of examples, in their order, brought to unit length.

    A file names a row by our id, or by the value of the row's own column `id`; `beside` is the pool, where the rows are
    none of it. Raises PoolError where a row has no vector that can be used, and names the first such rows.
    """
    shown = redact_url(given)
    lists = _of_file(given, rows, beside) if is_file(given) else _of_column(given, rows)
    numbers = rows["row"].to_pylist()
    lengths = pc.list_value_length(lists).fill_null(-1).to_numpy()
    faults = length_faults(lengths)
    refuse(shown, faults, numbers)
    vectors = np.empty((len(rows), lengths[0] if len(lengths) else 0), dtype=np.float32)
    for start in range(0, len(rows), _SLICE):
        part = lists.slice(start, _SLICE).combine_chunks()
        unit, wrong = unit_vectors(part, len(part))
        faults |= {start + row: fault for row, fault in wrong.items()}
        if not faults:
            vectors[start : start + _SLICE] = unit
    refuse(shown, faults, numbers)
    return vectors


def example_vectors(given: str, rows: pa.Table, dimension: int | None, beside: pa.Table | None) -> Vectors:
    """The same of rows of examples or tests, which need vectors beside the pool's; raises PoolError as it does.

    Raises PoolError, too, where they have another length than the pool's, which is `dimension` if it is known.
    """
    try:
        vectors = given_vectors(given, rows, beside)
    except PoolError as error:  # its rows are not the pool's
        raise PoolError(f"the examples of --target or --away-from need vectors too: {error}") from error
    if dimension is not None and vectors.shape[1] != dimension:
        raise PoolError(
            f"rows of examples or tests have vectors of {vectors.shape[1]:,} numbers in {redact_url(given)}, and those "
            f"of the pool have {dimension:,}: give all of them vectors by one model"
        )
    return vectors


def length_faults(lengths: npt.NDArray[Any]) -> dict[Any, str]:
    """What is wrong with rows, by their place, whose vectors have so many numbers; -1 where there is no vector."""
    known = lengths[lengths > 0]
    dimension = int(known[0]) if len(known) else 0
    other = np.flatnonzero((lengths > 0) & (lengths != dimension))
    faults = dict.fromkeys(np.flatnonzero(lengths <= 0), "no vector")
    return faults | {row: f"{lengths[row]:,} numbers, where the first vector has {dimension:,}" for row in other}


def unit_vectors(lists: pa.Array, rows: int) -> tuple[Vectors, dict[Any, str]]:
    """Lists of numbers, all of one length, as vectors (rows, d) of unit length; and those that cannot be, by place."""
    unit = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(rows, -1)
    largest = np.abs(unit).max(axis=1, keepdims=True)  # so that no square is too large or too small for a float
    faults = dict.fromkeys(np.flatnonzero(largest == 0), "zeros alone")
    faults |= dict.fromkeys(np.flatnonzero(~np.isfinite(largest)), "numbers that are not finite")
    if not faults:
        unit /= largest
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit.astype(np.float32), faults


def refuse(shown: str, faults: dict[Any, str], numbers: Sequence[int]) -> None:
    """Raise PoolError where rows, by their place, are at fault; `numbers` are the rows of the pool's file."""
    if faults:
        reasons = pool.first_reasons((numbers[row], faults[row]) for row in sorted(faults))
        raise PoolError(
            f"{len(faults):,} of {len(numbers):,} rows have no usable vector in {shown}: {reasons}. {_ADVICE}"
        )


def _of_column(given: str, rows: pa.Table) -> pa.ChunkedArray:
    name = own_name(given, rows.column_names)
    if name not in rows.column_names:
        raise PoolError(
            f"--embeddings names neither a column nor a file: no row has a column {given!r}, and the name of a file "
            "ends in a format, such as .parquet"
        )
    column, field = rows[name], rows.schema.field(name)
    _refuse_others(column, f"the column {given!r}")
    return _lists(column if _has_numbers(column.type) else original_values(field, column), f"the column {given!r}")


def _of_file(given: str, rows: pa.Table, beside: pa.Table | None) -> pa.ChunkedArray:
    """Each row's list; null where the file names no such row."""
    shown = redact_url(given)
    records = pool.read(pool.fetch(given))
    if records.faults:
        raise PoolError(f"{shown} has rows that cannot be read: {pool.first_reasons(sorted(records.faults.items()))}")
    if "id" not in records.columns:
        raise PoolError(f"{shown} has no column `id`: give each vector the id of its row")
    column, place_of = records.columns[vector_column(records, shown)], dict[str, int]()
    if not isinstance(column, pa.ChunkedArray):
        column = values(column)  # looked at in any order
    repeated: list[tuple[int, int]] = []
    for place, id in enumerate(values(records.columns["id"])):
        if id is None:
            raise PoolError(f"row {records.rows[place]} of {shown} has no id: give each vector the id of its row")
        if (first := place_of.setdefault(str(id), place)) != place:
            repeated.append((first, place))
    for first, place in repeated:
        if str(_value(column, first)) != str(_value(column, place)):  # as texts: NaN is not equal to itself
            raise PoolError(
                f"{shown} has two vectors for one id, in rows {records.rows[first]} and {records.rows[place]}: "
                "leave one of them out"
            )
    others = own_ids(rows)
    by_id = np.array([place_of.get(id, -1) for id in rows["id"].to_pylist()], dtype=np.int64)
    by_own = np.array([-1 if id is None else place_of.get(str(id), -1) for id in others], dtype=np.int64)
    places = places_of(shown, rows, by_id, by_own)
    if beside is not None:
        _refuse_ids_of_pool(shown, rows, by_id < 0, beside)
    if len(rows) and (places < 0).all():
        raise none_matches(shown, rows, place_of)
    if isinstance(column, pa.ChunkedArray):
        return _lists(column.take(pa.array(places, mask=places < 0)), shown)
    return _lists([None if place < 0 else column[place] for place in places.tolist()], shown)


def own_ids(rows: pa.Table) -> list[Any]:
    """The value of each row's own column `id`; None where it has none."""
    if "source_id" not in rows.column_names:
        return [None] * len(rows)
    return original_values(rows.schema.field("source_id"), rows["source_id"])


def _refuse_ids_of_pool(shown: str, rows: pa.Table, is_by_own: npt.NDArray[np.bool_], pool: pa.Table) -> None:
    """Raise PoolError where a row of examples, named by its own `id`, has that of another row of the pool."""
    named = {str(own): (id, row) for own, id, row in _named(pool) if own is not None}
    for is_named, (own, id, row) in zip(is_by_own, _named(rows), strict=True):
        other, number = named.get(str(own), (id, row))
        if is_named and own is not None and other != id:
            raise PoolError(
                f"row {row} of the examples and row {number} of the pool differ, and have one id, "
                f"{one_line(str(own), 40)!a}: {shown} does not say whose vector that is. Give the examples other ids"
            )


def _named(rows: pa.Table) -> Iterable[tuple[Any, str, int]]:
    return zip(own_ids(rows), rows["id"].to_pylist(), rows["row"].to_pylist(), strict=True)


def places_of(shown: str, rows: pa.Table, by_id: Rows, by_own: Rows) -> Rows:
    """Where each row's vector stands in a file: by our id, else by the row's own `id`; -1 where it does not.

    Raises PoolError where two rows have one `id` of their own: one of them would get the other's vector.
    """
    by_own = np.where(by_id < 0, by_own, -1)
    order = np.argsort(by_own, kind="stable")
    in_order = by_own[order]
    shared = np.flatnonzero((in_order[1:] == in_order[:-1]) & (in_order[1:] >= 0))
    if len(shared):
        first, second = min((order[place], order[place + 1]) for place in shared)
        own = own_ids(rows.slice(int(first), 1))[0]
        raise PoolError(
            f"rows {rows['row'][int(first)]} and {rows['row'][int(second)]} differ, and have one id, "
            f"{one_line(str(own), 40)!a}: {shown} does not say whose vector that is. Give each row an id of its own, "
            "or each vector the id of its row in the store"
        )
    return np.where(by_id < 0, by_own, by_id)


def none_matches(shown: str, rows: pa.Table, there: Iterable[str]) -> PoolError:
    """The error where a file, with these ids, has a vector for none of the rows."""
    ids = rows["id"].to_pylist()
    own = [str(other) for id, other in zip(ids, own_ids(rows), strict=True) if other not in (None, id)]
    ours = f"{_like(own)} in their column `id`, and {_like(ids)} in ours" if own else _like(ids)
    return PoolError(
        f"{shown} has a vector for none of the {len(rows):,} rows: ids look like {_like(there)} there, and "
        f"those of the rows like {ours}. Give each vector the id of its row"
    )


def _like(ids: Iterable[str]) -> str:
    """What ids look like, by the first of them."""
    return " and ".join(ascii(one_line(id, 40)) for id in islice(ids, 2))


def vector_column(records: Records, shown: str) -> str:
    """The name of the one column of lists of a file, or of several of the one that is called as vectors are."""
    lists = [name for name, column in records.columns.items() if _has_lists(column)]
    named = [name for name in NAMES if name in lists]
    if not lists:
        for name, column in records.columns.items():
            _refuse_others(column, f"the column {name!r} of {shown}")
    if len(lists) != 1 and not named:
        found = f"several: {join_names(lists)}. Leave one, or call it `vector`" if lists else "none"
        raise PoolError(f"{shown} needs a column of lists of numbers beside `id`, and has {found}")
    return named[0] if named else lists[0]


def _has_lists(column: Column) -> bool:
    if isinstance(column, pa.ChunkedArray):
        return _has_numbers(column.type)
    first = next((value for value in column if value is not None and value != []), None)
    return isinstance(first, list) and not isinstance(first[0], str)  # lists of words, such as tags, are no vectors


def _has_numbers(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return bool(is_list and (pa.types.is_floating(type_.value_type) or pa.types.is_integer(type_.value_type)))


def _refuse_others(column: Column, shown: str) -> None:
    """Raise PoolError where lists hold decimals or booleans: no vectors are made of these."""
    if isinstance(column, pa.ChunkedArray):
        of = getattr(column.type, "value_type", pa.null())
        has_booleans, has_decimals = pa.types.is_boolean(of), pa.types.is_decimal(of)
    else:
        types = {type_ for value in column if isinstance(value, list) for type_ in set(map(type, value))}
        has_booleans, has_decimals = bool in types, Decimal in types
    if has_booleans or has_decimals:
        raise PoolError(
            f"{shown} holds lists of {'booleans' if has_booleans else 'decimals'}, and vectors are of floating-point "
            "or whole numbers. Convert them, such as to float32, and write the file anew"
        )


def _value(column: Column, place: int) -> Any:
    return column[place].as_py() if isinstance(column, pa.ChunkedArray) else column[place]


def _lists(column: Column, shown: str) -> pa.ChunkedArray:
    if isinstance(column, pa.ChunkedArray):
        return column
    _refuse_others(column, shown)
    try:
        return pa.chunked_array([pa.array(column, pa.list_(pa.float64()))])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise PoolError(f"{shown} holds values that are no lists of numbers. {_ADVICE}") from error
