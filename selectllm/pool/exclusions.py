"""Which rows a file names: by their ids, as selections and lists of ids do, or by their texts, as annotations do."""

import re
from contextlib import suppress
from dataclasses import replace
from typing import Final

from selectllm.errors import PoolError
from selectllm.pool.formats import read_records, shown_name, suffix_of
from selectllm.pool.layouts import Columns
from selectllm.pool.parse import parse_records
from selectllm.pool.records import values
from selectllm.pool.source import fetch_bytes

_ID: Final = re.compile("[0-9a-f]{32}")


def named_ids(location: str, columns: Columns) -> frozenset[str]:
    """The ids of the rows that a file names: a text file with an id on every line, or any file that a pool can be.

    In a table both count: a row's `id`, and its own texts, read as a pool's are. An id of another system that looks
    like one of ours names no row, and so does no harm.
    Raises PoolError where the file cannot be read or names no row.
    """
    of_texts: list[str] = []
    if suffix_of(location):
        records = read_records(fetch_bytes(location), location)
        named = values(records.columns.get("id", []))
        with suppress(PoolError):  # its columns are not a pool's
            of_texts = parse_records(records, replace(columns, output=None), location).table["id"].to_pylist()
    else:
        named = fetch_bytes(location, is_table=False).decode("utf-8-sig", errors="replace").split()
    ids = frozenset(of_texts).union(id for id in named if isinstance(id, str) and _ID.fullmatch(id))
    if not ids:
        raise PoolError(
            f"{shown_name(location)} names no row: give ids, one on each line, a selection, or rows with the "
            "texts of the pool's"
        )
    return ids
