"""Which format a file is in, by the end of its name, and how that format is read."""

import codecs
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.paths import redact_url
from selectllm.pool.compression import UNPACKERS, unpack
from selectllm.pool.csv_format import read_csv
from selectllm.pool.json_format import read_json, read_lines
from selectllm.pool.parts import PART_ROWS, Spill
from selectllm.pool.records import NoRows, Records, refuse_repeated_names, values
from selectllm.store.tables import from_parquet
from selectllm.store.values import with_readable_types
from selectllm.text import json_text, one_line, short_error


def read_arrow(data: bytes, location: str, _spill: Spill) -> Records:
    """An Arrow file or stream, such as the caches of Hugging Face's datasets; otherwise as Parquet."""
    try:
        opened = pa.ipc.open_file(data) if data.startswith(b"ARROW1") else pa.ipc.open_stream(data)
        table = opened.read_all()
        table.schema.to_string()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PoolError(
            f"{location} is not an Arrow file that can be read: {short_error(error)}. Fetch or write it again."
        ) from error
    return _records(table, location)


def read_parquet(data: bytes, location: str, _spill: Spill) -> Records:
    """Parquet; rows are numbered from 1, columns keep their Arrow types, and no row can be at fault."""
    try:
        table = from_parquet(data)
        table.schema.to_string()  # decodes every name: Arrow does not check that names are UTF-8
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PoolError(
            f"{location} is not a Parquet file that can be read: {short_error(error)}. Fetch or write it again."
        ) from error
    return _records(table, location)


def _records(table: pa.Table, location: str) -> Records:
    refuse_repeated_names(table.column_names, location)
    table = with_readable_types(table)

    def texts(rows: Sequence[int]) -> Iterator[str]:
        for start in range(0, len(table), PART_ROWS):
            low, high = bisect_right(rows, start), bisect_right(rows, start + PART_ROWS)
            places = pa.array([row - 1 - start for row in rows[low:high]], pa.int64())
            chosen = table.slice(start, PART_ROWS).take(places)  # of the whole table, all texts would be copied
            columns = [values(column) for column in chosen.columns]
            for row in zip(*columns, strict=True):
                yield json_text(dict(zip(table.column_names, row, strict=True)))

    columns = dict(zip(table.column_names, table.columns, strict=True))
    return Records(range(1, table.num_rows + 1), columns, {}, texts)


READERS: Final[dict[str, Callable[[bytes, str, Spill], Records]]] = {
    ".jsonl": read_lines,
    ".ndjson": read_lines,
    ".jsonlines": read_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": partial(read_csv, delimiter="\t"),
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
_BINARY: Final = (read_parquet, read_arrow)


def shown_name(location: str) -> str:
    """A path or URL as it stands in messages."""
    return one_line(redact_url(location))


def _ends(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names))


def suffix_of(location: str) -> str | None:
    """The suffix that names the format, such as ".csv" or ".csv.gz"; None where there is none."""
    path = re.split(r"[?#]", location)[0] if "://" in location else location
    match = re.search(rf"({_ends(READERS)})({_ends(UNPACKERS)})?$", path, re.IGNORECASE)
    return match[0].lower() if match else None


def file_format(location: str) -> str:
    """The suffix that names the format; raises PoolError where there is none."""
    suffix = suffix_of(location)
    if suffix is None:
        raise PoolError(
            f"{shown_name(location)} does not end in the name of a format. "
            f"Known are {', '.join(READERS)}, each also with {', '.join(UNPACKERS)}."
        )
    return suffix


def _utf8(data: bytes, name: str) -> bytes:
    """The text of a file as UTF-8 without a byte order mark, of which some programs write two."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise PoolError(f"{name} is not UTF-16 at byte {error.start}. Save it as UTF-8.") from error
    while data.startswith(codecs.BOM_UTF8):
        data = data.removeprefix(codecs.BOM_UTF8)
    return data


def format_of_content(data: bytes) -> str:
    """The suffix of bytes without a name, such as standard input: by their beginning, which need say nothing in CSV."""
    known = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"{": ".jsonl", b"[": ".jsonl"}
    start = data.removeprefix(codecs.BOM_UTF8)[:100].lstrip()
    return next((suffix for beginning, suffix in known.items() if start.startswith(beginning)), ".csv")


def read_records(data: bytes, location: str, suffix: str | None = None, spill: Spill | None = None) -> Records:
    """Read the bytes of a file of a known format, by default the one that the end of its name says.

    Parameters: `spill`, where the values of a large file are put aside.
    Raises PoolError for a file that is damaged as a whole or has a name without a format, NoRows for one without rows.
    """
    suffix, name = suffix or file_format(location), shown_name(location)
    form, _, end = suffix.removeprefix(".").partition(".")
    if data and end:
        data = unpack(data, f".{end}", name)
    if not data:
        raise NoRows(f"{name} is empty. Check how it was written or fetched.")
    reader = READERS[f".{form}"]
    records = reader(data if reader in _BINARY else _utf8(data, name), name, spill or Spill())
    if not records.rows and not records.faults:
        raise NoRows(f"{name} has no rows. Check how it was written or fetched.")
    return records
