"""What `COLUMN:VALUE=N` asks for: exactly N rows that have a value in a column."""

import json
import re
from dataclasses import dataclass
from typing import Final

FORM: Final = "COLUMN:VALUE=N"
_COUNT: Final = re.compile(r"(?s)(.*)=\s*([0-9]{1,12})\s*")


@dataclass(frozen=True)
class Quota:
    """Exactly `wanted` rows, from 0, whose `column` has a `value`, which is written as selection.jsonl shows it."""

    column: str
    value: str
    wanted: int


def parse_quota(text: str) -> Quota:
    """Read a quota: N stands behind the last equals sign, and the column before the first colon.

    A column whose name holds a colon, or begins with a quote, is written as JSON text: `"a:b":VALUE=N`. The value is
    all that stands between, with its spaces. Raises ValueError where the text has another form.
    """
    if match := _COUNT.fullmatch(text):
        column, value = _parts(match[1])
        if column and value is not None:
            return Quota(column, value, int(match[2]))
    raise ValueError(f"--quota cannot be {text!a}: write {FORM}, as in category:summarization=20")


def _parts(text: str) -> tuple[str, str | None]:
    """The column and the value; no value where no colon stands between."""
    if text.startswith('"'):
        try:
            column, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            return "", None
        return (column, text[end + 1 :]) if text[end : end + 1] == ":" else ("", None)
    column, colon, value = text.partition(":")
    return column, value if colon else None
