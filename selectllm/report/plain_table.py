"""Tables of plain text, for a terminal or a file."""

import io
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text


def plain_table(columns: Mapping[str, JustifyMethod], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Lines of at most `width` columns: titles, then rows, whose texts `text.fit_line` gave; the last column is cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    *titles, last = columns
    for title in titles:
        table.add_column(title, justify=columns[title], no_wrap=True)
    table.add_column(last, justify=columns[last])
    for row in rows:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, legacy_windows=False).print(table)
    return [line.rstrip(" ") for line in text.getvalue().split("\n")[:-1]]
