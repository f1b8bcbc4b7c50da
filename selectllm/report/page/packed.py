"""JSON within a page: compressed, since rows are many, and in letters that no parser takes for markup."""

import base64
import gzip
import json
from collections.abc import Callable, Iterable
from typing import Any


def pack(value: Any) -> str:
    """A JSON value as base64 of gzip, the same for equal values."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")


def pack_largest(make: Callable[[int], Any], sizes: Iterable[int], most: int) -> tuple[str, int]:
    """The first of some sizes, the largest first, at which what is made takes at most so many characters packed.

    Returns it, and the size; the last size counts even where it takes more.
    """
    packed, size = "", 0
    for size in sizes:
        packed = pack(make(size))
        if len(packed) <= most:
            break
    return packed, size
