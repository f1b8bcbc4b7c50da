"""Writes what others wrote into a prompt, so that it stays data there."""

import json
import re
from typing import Any

_as_json = json.JSONEncoder(ensure_ascii=False).encode  # made once: `json.dumps` makes one for every value
_MARKS = re.compile(r"<(?=[|/!A-Za-z_<｜])|\[(?=/?[A-Z_]{2,}\])|[\x85\u2028\u2029]")
_FIRST_MARKS = "<[\x85\u2028\u2029"


def fenced(value: Any) -> str:
    """A value as one line of JSON that no reader takes for more than data.

    A chat template's marks (`<|im_end|>`, `</s>`, `[INST]`) become control tokens wherever they stand in a prompt, and
    some readers break lines at more than a newline: their first character is written as JSON's escape, which means the
    same.
    """
    text = _as_json(value)
    if not any(mark in text for mark in _FIRST_MARKS):  # as in nearly all: much faster than to look for the pattern
        return text
    return _MARKS.sub(lambda mark: f"\\u{ord(mark[0]):04x}", text)
