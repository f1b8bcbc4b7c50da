"""What a page of an evaluation shows, whichever evaluation it was; and the same as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from selectllm.text import one_line


@dataclass(frozen=True)
class Table:
    """A table: its first `names` columns are names, all others numbers, which stand to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""
    names: int = 1


@dataclass(frozen=True)
class Mark:
    """An estimate in a picture, with its interval if it has one."""

    panel: str
    label: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Picture:
    """Estimates with their intervals, in panels: what it shows, its unit, and a value to look from, such as 0.

    Panels of one unit share an axis; those of several measures have one each.
    """

    title: str
    axis: str
    marks: Sequence[Mark]
    reference: float | None = None
    is_shared: bool = True


@dataclass(frozen=True)
class Sheet:
    """A whole evaluation: facts by their names, pictures, tables, and what has to be known to read them."""

    title: str
    facts: Mapping[str, str]
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    notes: Sequence[str]


def to_markdown(sheet: Sheet) -> str:
    """A sheet as Markdown without its pictures; names and texts of others stay text."""
    lines = [*(f"- {_plain(name)}: {_plain(value)}" for name, value in sheet.facts.items()), ""]
    for table in sheet.tables:
        lines += [f"**{_plain(table.title)}**", "", *([_plain(table.about, 1000), ""] if table.about else [])]
        lines += [f"| {' | '.join(map(_plain, table.columns))} |", f"|{'|'.join(_rules(table))}|"]
        lines += [f"| {' | '.join(map(_plain, row))} |" for row in table.rows] + [""]
    return "\n".join([*lines, *(f"- {_plain(note, 1000)}" for note in sheet.notes), ""])


def _rules(table: Table) -> Iterator[str]:
    return ("---" if place < table.names else "---:" for place in range(len(table.columns)))


def _plain(cell: str, limit: int = 80) -> str:
    """A text in which no mark means anything to Markdown; those of numbers stay as they are."""
    return "".join(f"&#{ord(mark)};" if mark in "|`[]*_\\~<>&:@#" else mark for mark in one_line(cell, limit))
