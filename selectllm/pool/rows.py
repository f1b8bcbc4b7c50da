"""A row of the pool: its id, and when it can be used.

An id is a digest of the texts that a model would be shown, and of nothing else.
"""

import hashlib
import json
import math
import unicodedata
from typing import Final

from selectllm.text import finite, json_text, type_name

_VERSION: Final = 1  # Part of every id. Raise it when the normal form changes: every cached result is then made anew.
_quoted = json.JSONEncoder(ensure_ascii=False).encode

READABLE: Final = "row_readable"
PRESENT: Final = "instruction_present"
INSTRUCTION_IS_TEXT: Final = "instruction_is_text"
INPUT_IS_TEXT: Final = "input_is_text"
ENCODED: Final = "text_is_utf8"
RULES: Final = (READABLE, PRESENT, INSTRUCTION_IS_TEXT, INPUT_IS_TEXT, ENCODED)
"""The rules of structure, which every row must keep to before its texts can be checked; READABLE is for rows that are
no records."""


class InvalidRow(Exception):
    """A row cannot be used; its arguments are the reason that its quarantine records, and the rule that it breaks."""


def validate_row(instruction: object, input: object, output: object) -> tuple[str, str | None, str | None]:
    """A row's texts as they are stored: unchanged, but for a blank input and an empty output, which become null.

    An output is no part of any question, so one that is not text is kept as its JSON text. Raises InvalidRow.
    """
    instruction_text = _text("instruction", instruction, INSTRUCTION_IS_TEXT)
    if instruction_text is None:
        raise InvalidRow("no instruction", PRESENT)
    if not instruction_text.strip():
        raise InvalidRow("the instruction is empty", PRESENT)
    input_text = _text("input", input, INPUT_IS_TEXT)
    if input_text is not None and not input_text.strip():
        input_text = None
    is_text = is_missing(output) or isinstance(output, (str, bytes))
    output_text = (_text("output", output, ENCODED) or None) if is_text else json_text(finite(output))
    return instruction_text, input_text, output_text


def is_missing(value: object) -> bool:
    """Whether a value stands for none: null, or the NaN that pandas and Parquet have in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(role: str, value: object, rule: str) -> str | None:
    if is_missing(value):
        return None
    if not isinstance(value, (str, bytes)):
        raise InvalidRow(f"the {role} is not text but {type_name(value)}", rule)
    try:
        if isinstance(value, bytes):  # a Parquet column of text that was not marked as such
            return value.decode()
        value.encode()
        return value
    except UnicodeDecodeError as error:
        raise InvalidRow(f"the {role} is not UTF-8", ENCODED) from error
    except UnicodeEncodeError as error:
        raise InvalidRow("holds a lone surrogate, which UTF-8 cannot hold", ENCODED) from error


def row_id(instruction: str, input: str | None) -> str:
    """The id of a row, 32 hex digits: blake2b-128 of its instruction and input in their normal form.

    The normal form is NFC with LF line ends and without space at either end; an absent and a blank input are the same.
    Raises UnicodeEncodeError for a text that holds a lone surrogate.
    """
    # The list is written by hand, as JSON without spaces: the encoder is three times as fast for a text as for a list.
    canonical = f"[{_VERSION},{_quoted(_normal(instruction))},{_quoted(_normal(input or ''))}]"
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()
