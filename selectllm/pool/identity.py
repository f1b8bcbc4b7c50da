"""What makes two rows the same row: a digest of the texts that a model would be shown, and of nothing else."""

import hashlib
import json
import unicodedata
from typing import Final

_VERSION: Final = 1  # Part of every id. Raise it when the normal form changes: every cached result is then made anew.
_quoted = json.JSONEncoder(ensure_ascii=False).encode


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
