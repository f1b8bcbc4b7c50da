"""Reads the files that AlpacaEval exchanges: lists of objects in JSON, or the same as a table."""

import math
from typing import Any, Final

from selectllm.errors import UsageError
from selectllm.pool import fetch
from selectllm.pool.formats import read_records, shown_name
from selectllm.pool.records import values
from selectllm.text import escape_surrogates, type_name

MISSING: Final = ("", "nan", "null", "none")
"""What stands for no number in a table of texts, in lower case."""


def read_rows(location: str) -> list[dict[str, Any]]:
    """The rows of one file in any format of a pool; raises PoolError, UsageError where a row is damaged."""
    file, name = fetch(location), shown_name(location)
    if file.parts:
        raise UsageError(f"{name} is several files: name one of them")
    records = read_records(file.data, file.location, file.form)
    for row, fault in sorted(records.faults.items())[:1]:
        raise UsageError(f"row {row} of {name} is {fault}. Mend it, or fetch the file again")
    columns = {column: values(cells) for column, cells in records.columns.items()}
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def check_columns(rows: list[dict[str, Any]], names: tuple[str, ...], name: str) -> None:
    """Raise UsageError where the rows lack one of these columns."""
    if lacking := [column for column in names if column not in rows[0]]:
        raise UsageError(f"{name} has no column {lacking[0]!r}: it needs {', '.join(names)}")


def text_of(row: dict[str, Any], column: str, place: str) -> str:
    """A text of a row, halves of characters written out so that UTF-8 can hold it; raises UsageError for all else."""
    value = row.get(column)
    if not isinstance(value, str):
        raise UsageError(f"{place} has {type_name(value)} as {column!r}, where a text is needed")
    return escape_surrogates(value)


def number_of(row: dict[str, Any], column: str, place: str) -> float:
    """A number of a row, NaN where it has none; raises UsageError for anything else."""
    value = row.get(column)
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return math.nan
    try:
        found = math.inf if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.inf
    if math.isinf(found):
        raise UsageError(f"{place} has {value!r:.40} as {column!r}, where a finite number is needed")
    return found
