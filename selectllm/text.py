"""Texts that others wrote, made fit for a terminal, a log or an error message."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

UNSPACED: Final = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana, Chinese characters."""

MAX_MARKS: Final = 4
"""Accents on one letter that are shown; no living script needs more."""


def sanitize(text: str) -> str:
    """The text with every character that could move, hide, colour or turn what a terminal shows replaced by a mark.

    Those are Unicode's categories C: control characters, bidirectional and zero-width marks, surrogates, unassigned.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(mark)[0] == "C" else mark for mark in text)


def escape_unprintable(text: str) -> str:
    r"""The text with all but its printable characters and line ends as JSON's escapes, such as `\u202e`."""
    return "".join(mark if mark.isprintable() or mark == "\n" else json.dumps(mark)[1:-1] for mark in text)


def words(text: str) -> list[str]:
    """The words of a text in lower case, in any script: a letter of a script written without spaces is a word.

    A vowel sign or an accent belongs to its word, also where it is a character of its own.
    """
    return _word_pattern().findall(unicodedata.normalize("NFC", text.lower()))


@cache
def _word_pattern() -> re.Pattern[str]:
    marks = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(rf"[{UNSPACED}][{marks}]*|(?:(?![{UNSPACED}])[\w{marks}])+")


def one_line(value: object, limit: int = 1000) -> str:
    """`value` as one printable line of at most `limit` characters; anything else would break a log or a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in str(value))
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def fit_line(text: str, width: int) -> str:
    """A text fit for one line of `width` columns: nothing that breaks, hides, turns or piles up, and not too long."""
    from rich.cells import cell_len, chop_cells  # only what prints needs it

    categories, shown = "", ""
    for character in " ".join(text.lstrip()[: 10 * width].split()):
        category = unicodedata.category(character)[0]
        if category != "M" or not categories.endswith("M" * MAX_MARKS):
            categories += category
            shown += character if category != "C" else "\N{REPLACEMENT CHARACTER}"
    if len(shown) <= width and cell_len(shown) <= width:
        return shown
    return str(chop_cells(shown[: width - 1], width - 1)[0]) + "…"


def short_error(error: Exception) -> str:
    """What an error of another package says, short and without a full stop, to stand inside a sentence."""
    return one_line(error, 300).rstrip(".") or type(error).__name__


def join_names(names: Iterable[str], limit: int = 20) -> str:
    """The first `limit` of `names` for an error message, and how many more there are."""
    shown = [one_line(name, 80) for name in names]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def type_name(value: object) -> str:
    """What a JSON value, or a Python value read from Parquet, is called in a reason: "a list", "a number"."""
    names: dict[type, str] = {str: "text", bool: "a boolean", list: "a list", dict: "an object", bytes: "bytes"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def escape_surrogates(text: str) -> str:
    r"""`text` with lone surrogates written out as `\ud800`, so that UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed, keys among them."""
    if isinstance(value, dict):
        return {map_strings(key, change): map_strings(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [map_strings(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def finite(value: Any) -> Any:
    """A JSON value with null in the place of every NaN and infinity, for which JSON has no word."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def json_text(value: object) -> str:
    """`value` as JSON in readable characters; what JSON has no word for (dates, bytes) as Python writes it."""
    return escape_surrogates(json.dumps(value, ensure_ascii=False, default=str))
