"""A selection as CSV that spreadsheets open as it is meant: in UTF-8, and without a text that runs as a formula."""

import csv
import io
from typing import Any, Final

from selectllm.export.chosen import OWN, Chosen
from selectllm.export.names import ANNOTATORS, ANSWER, PROBLEM, TIMES, renamed
from selectllm.pool.annotated import ID_NAMES
from selectllm.text import escape_surrogates, json_text

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula can begin with, in full width too: https://owasp.org/www-community/attacks/CSV_Injection."""

_READ: Final = frozenset({ANSWER, PROBLEM, *ID_NAMES, *ANNOTATORS, *TIMES})
"""Columns that mean something in a table that comes back, however they are capitalised."""

BOM: Final = "\ufeff"  # without it Excel takes UTF-8 for an old Windows encoding


def csv_file(chosen: Chosen, *, raw: bool) -> bytes:
    """The rows as CSV in UTF-8 with a byte order mark, and an empty column `answer` behind the texts.

    A column of the pool that would be taken for what annotators wrote is called `source_<name>`. Fields with line ends
    are quoted. Unless `raw`, a text that could be a formula begins with an apostrophe.
    """
    own = [name for name in chosen.table.column_names if name in OWN]
    read = [name for name in chosen.carried if name.strip().casefold() in _READ]
    names = dict(zip(own, own, strict=True)) | renamed(chosen.carried, (*OWN, ANSWER, *read))
    texts = [name for name in ("order", "id", "instruction", "input", "output") if name in names]
    first = len(texts)
    columns = [*texts, *(name for name in names if name not in texts)]
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\r\n")
    header = [_cell(names[name], raw=raw) for name in columns]
    writer.writerow([*header[:first], ANSWER, *header[first:]])
    for row in chosen.rows():
        cells = [_cell(row[name], raw=raw) for name in columns]
        writer.writerow([*cells[:first], "", *cells[first:]])
    return (BOM + file.getvalue()).encode("utf-8")


def _cell(value: Any, *, raw: bool) -> Any:
    """A value as a cell: numbers as they are, null as nothing, lists and objects as JSON."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    text = escape_surrogates(value) if isinstance(value, str) else json_text(value)
    return f"'{text}" if not raw and text.startswith(FORMULA_STARTS) else text
