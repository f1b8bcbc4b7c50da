"""Which format a file is in, by the end of its name, and how that format is read."""

import codecs
import gzip
import re
import zlib
from collections.abc import Callable
from typing import Final

from selectllm.errors import PoolError
from selectllm.paths import redact_url
from selectllm.pool.csv_format import read_csv, read_tsv
from selectllm.pool.json_format import read_json, read_lines
from selectllm.pool.parquet_format import read_parquet
from selectllm.pool.records import Records
from selectllm.text import one_line, short_error

READERS: Final[dict[str, Callable[[bytes, str], Records]]] = {
    ".jsonl": read_lines,
    ".ndjson": read_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}


def is_readable(location: str) -> bool:
    """Whether a name ends in the name of a format."""
    return _suffix(location) is not None


def file_format(location: str) -> str:
    """The suffix that names the format, such as ".csv" or ".csv.gz"; raises PoolError where there is none."""
    suffix = _suffix(location)
    if suffix is None:
        raise PoolError(
            f"{one_line(redact_url(location))} does not end in the name of a format. "
            f"Known are {', '.join(READERS)}, each also with .gz."
        )
    return suffix


def read_records(data: bytes, location: str) -> Records:
    """Read the bytes of a file of a known format.

    Raises PoolError for a file that is damaged as a whole, has no rows, or has a name without a format.
    """
    suffix = file_format(location)
    location = one_line(redact_url(location))
    if suffix.endswith(".gz"):
        data = _gunzip(data, location)
    if not data:
        raise PoolError(f"{location} is empty. Check how it was written or fetched.")
    records = READERS[suffix.removesuffix(".gz")](data.removeprefix(codecs.BOM_UTF8), location)
    if not records.rows and not records.faults:
        raise PoolError(f"{location} has no rows. Check how it was written or fetched.")
    return records


def _suffix(location: str) -> str | None:
    path = re.split(r"[?#]", location)[0] if "://" in location else location
    known = "|".join(re.escape(suffix) for suffix in READERS)
    match = re.search(rf"({known})(\.gz)?$", path, re.IGNORECASE)
    return match[0].lower() if match else None


def _gunzip(data: bytes, location: str) -> bytes:
    if not data:
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise PoolError(
            f"{location} is not gzip that can be unpacked: {short_error(error)}. Fetch or write it again."
        ) from error
