"""Texts that others wrote, fit for a page: what a page shows is what a reader can see."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Final

from selectllm.text import fit_line

LABEL_WIDTH: Final = 40
"""Columns of a value's name in a chart or a list of choices."""

KEPT: Final = "\n\t\u200c\u200d"
"""Marks of the categories C that a page shows as they are: line ends, and the joiners that some scripts need."""


def visible(text: str) -> str:
    """The text with every character that could hide, turn or overlay others replaced by a mark; lines stay lines."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        mark if mark in KEPT or unicodedata.category(mark)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for mark in text
    )


def label(value: object) -> str:
    """A value's name, on one short line."""
    if value is None:
        return "(none)"
    return fit_line(str(value), LABEL_WIDTH) or "(blank)"


def labels(values: Iterable[object]) -> list[str]:
    """The names of different values, of which no two are the same."""
    seen = Counter[str]()
    names = []
    for value in values:
        name = label(value)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def cut(text: str, limit: int) -> str:
    """The beginning of a text, visible, with a mark where it goes on."""
    return visible(text[:limit]) + ("…" if len(text) > limit else "")
