"""The rows that a file names: by their ids, or by their texts."""

import re
from contextlib import suppress
from dataclasses import replace
from typing import Final

from selectllm.errors import PoolError
from selectllm.pool.annotated import record_ids
from selectllm.pool.formats import read_records, shown_name, suffix_of
from selectllm.pool.layouts import Columns, chat_columns
from selectllm.pool.parse import parse_records
from selectllm.pool.source import fetch_bytes

_ID: Final = re.compile("[0-9a-f]{32}")


def named_ids(location: str, columns: Columns) -> frozenset[str]:
    """The ids of the rows that a file names: a text file with an id on every line, or any file that a pool can be.

    In a table all of these count: a row's `id`, its own texts, and its conversation, read as a pool's are; and the
    ids in exports of Label Studio and in OpenAI's batches. An id of another system that looks like one of ours names
    no row, and so does no harm.
    Raises PoolError where the file cannot be read or names no row.
    """
    of_texts: list[str] = []
    if suffix_of(location):
        records = read_records(fetch_bytes(location), location)
        named = record_ids(records)
        for instruction in (columns.instruction, *chat_columns(records.columns)):
            with suppress(PoolError):  # its columns are not a pool's
                as_pool = replace(columns, instruction=instruction, output=None)
                of_texts += parse_records(records, as_pool, location).table["id"].to_pylist()
    else:
        named = fetch_bytes(location, is_table=False).decode("utf-8-sig", errors="replace").split()
    ids = frozenset(of_texts).union(id for id in named if isinstance(id, str) and _ID.fullmatch(id))
    if not ids:
        raise PoolError(
            f"{shown_name(location)} names no row: give ids, one on each line, a selection, or rows with the "
            "texts of the pool's"
        )
    return ids
