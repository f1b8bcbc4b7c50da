"""The output folder of a run: the selection, the quarantine and the summary, for people and other programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from selectllm.errors import StoreError
from selectllm.pool.carried import original_values
from selectllm.store.files import remove_stale_temp_files, temporary_pattern, write_atomically
from selectllm.store.tables import to_parquet
from selectllm.text import finite, json_text

LINE_ENDS: Final = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Line ends of Unicode that JSON allows unescaped, and at which some readers of lines split."""


def write_folder(folder: Path, selection: pa.Table, quarantine: pa.Table, summary: Mapping[str, Any]) -> None:
    """Write the files, the summary last: where it is, the others are its own. Raises StoreError when it cannot."""
    if selection["output"].null_count == len(selection):
        selection = selection.drop_columns("output")
    files = {
        "selection.parquet": to_parquet(selection),
        "selection.jsonl": json_lines(selection),
        "quarantine.parquet": to_parquet(quarantine),
        "summary.json": json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n",
    }
    try:
        (folder / "summary.json").unlink(missing_ok=True)
        for name, content in files.items():
            remove_stale_temp_files(folder.glob(temporary_pattern(name)))
            write_atomically(folder / name, content)
    except OSError as error:
        raise StoreError(f"the output folder {str(folder)!r} cannot be written: {error.strerror}") from error


def json_lines(table: pa.Table) -> bytes:
    """A table as JSON lines in UTF-8; `input` and `output` are left out of rows that have none.

    Values of carried columns stand as they were in the pool's file.
    """
    columns = [original_values(field, column) for field, column in zip(table.schema, table.columns, strict=True)]
    lines = (
        json_text(
            {
                name: finite(value)
                for name, value in zip(table.column_names, row, strict=True)
                if value is not None or name not in ("input", "output")
            }
        )
        for row in zip(*columns, strict=True)
    )
    return b"".join(line.translate(LINE_ENDS).encode() + b"\n" for line in lines)
