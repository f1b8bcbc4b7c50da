"""Texts and values as the databases of annotation tools can hold them."""

import json
from collections.abc import Iterable
from typing import Any

from selectllm.text import escape_surrogates, map_strings


def storable(value: Any) -> Any:
    r"""A value of which PostgreSQL can keep every text: lone surrogates are written out, a NUL is shown as its picture.

    What JSON has no word for (dates, bytes) is written as Python writes it.
    """
    plain = json.loads(json.dumps(value, default=str))
    return map_strings(plain, lambda text: escape_surrogates(text).replace("\0", "\N{SYMBOL FOR NULL}"))


def json_list(items: Iterable[Any]) -> bytes:
    """A JSON list, one item a line; ASCII, which programs read alike whatever encoding they open files in."""
    return ("[\n" + ",\n".join(map(json.dumps, items)) + "\n]\n").encode()
