"""Which rows a file names: by their ids, as selections and lists of ids do, or by their texts, as annotations do."""

import re
from dataclasses import replace
from typing import Any, Final

from selectllm.errors import PoolError
from selectllm.paths import redact_url
from selectllm.pool.formats import is_readable, read_records
from selectllm.pool.layouts import Columns, recognise
from selectllm.pool.parse import parse_rows
from selectllm.pool.records import Records, values
from selectllm.pool.source import fetch_bytes
from selectllm.text import one_line

_ID: Final = re.compile("[0-9a-f]{32}")


def named_ids(location: str, columns: Columns) -> frozenset[str]:
    """The ids of the rows that a file names: a text file with an id on every line, or any file that a pool can be.

    In a table both count: a row's `id`, and its own texts, read as a pool's are. An id of another system that looks
    like one of ours names no row, and so does no harm.
    Raises PoolError where the file cannot be read or names no row.
    """
    if is_readable(location):
        records = read_records(fetch_bytes(location), location)
        ids = _ids(records) | _ids_of_texts(records, columns, one_line(redact_url(location)))
    else:
        lines = fetch_bytes(location, is_table=False).decode("utf-8-sig", errors="replace").split()
        ids = {line for line in lines if _ID.fullmatch(line)}
    if not ids:
        raise PoolError(
            f"{one_line(redact_url(location))} names no row: give ids, one on each line, a selection, or rows with the "
            "texts of the pool's"
        )
    return frozenset(ids)


def _ids(records: Records) -> set[str]:
    column: list[Any] = values(records.columns["id"]) if "id" in records.columns else []
    return {id for id in column if isinstance(id, str) and _ID.fullmatch(id)}


def _ids_of_texts(records: Records, columns: Columns, name: str) -> set[str]:
    try:
        layout = recognise(records.columns, replace(columns, output=None), name)
    except PoolError:
        return set()
    return set(parse_rows(records, layout).table["id"].to_pylist())
