import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Rows = list[dict[str, Any]]


def _separated(rows: Rows, delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: Rows | pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), file)
    return file.getvalue()


def _lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


WRITERS: dict[str, Callable[[Any], bytes]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": lambda rows: json.dumps(rows, indent=2).encode(),
    ".csv": lambda rows: _separated(rows, ","),
    ".tsv": lambda rows: _separated(rows, "\t"),
    ".parquet": _parquet,
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes bytes, text or rows to a file in the format of its name; returns its path."""

    def write(name: str, content: Any) -> str:
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        if not isinstance(content, bytes):
            content = WRITERS[Path(name.removesuffix(".gz")).suffix](content)
            content = gzip.compress(content) if name.endswith(".gz") else content
        path.write_bytes(content)
        return str(path)

    return write
