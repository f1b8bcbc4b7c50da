"""Where a command has written, in lines for people."""

from collections.abc import Mapping
from typing import Any


def written_lines(record: Mapping[str, Any]) -> list[str]:
    """The output and the page, where they were named."""
    named = {"Written": record.get("out"), "Page": record.get("page")}
    return [f"{name}: {place}" for name, place in named.items() if place]
