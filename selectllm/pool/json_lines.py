"""Tables as JSON lines, with the values of carried columns as they stood in the pool's file."""

from typing import Any, Final

import pyarrow as pa

from selectllm.pool.carried import original_values
from selectllm.text import finite, json_text

LINE_ENDS: Final = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Line ends of Unicode that JSON allows unescaped, and at which some readers of lines split."""


def json_lines(table: pa.Table) -> bytes:
    """A table as JSON lines in UTF-8; `input` and `output` are left out of rows that have none."""
    lines = (
        json_text({name: value for name, value in row.items() if value is not None or name not in ("input", "output")})
        for row in original_rows(table)
    )
    return b"".join(line.translate(LINE_ENDS).encode() + b"\n" for line in lines)


def original_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table; carried values stand as they were in the pool's file, NaN and infinity are null."""
    columns = [original_values(field, column) for field, column in zip(table.schema, table.columns, strict=True)]
    return [
        {name: finite(value) for name, value in zip(table.column_names, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]
