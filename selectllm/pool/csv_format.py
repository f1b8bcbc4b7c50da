"""Comma- and tab-separated values with a header, as records whose values are all text."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from selectllm.errors import PoolError
from selectllm.pool.records import Record, Records, gather, refuse_repeated_names

_MAX_FIELD: Final = 2**31 - 1  # the most that every platform takes
_MISSING: Final = frozenset({"NaN", "nan", "null", "NULL", r"\N"})  # as pandas and databases write it
_UNDECODED: Final = re.compile("[\udc80-\udcff]")  # what bytes that are not UTF-8 are decoded as


def read_csv(data: bytes, location: str, delimiter: str = ",") -> Records:
    """Separated values; a row's number is the line on which it begins, the header's line being 1."""
    csv.field_size_limit(_MAX_FIELD)
    lines = data.split(b"\n")
    parsed_lines = _parsed(lines, delimiter)
    header = _header(next(parsed_lines, None), location)
    last_lines: dict[int, int] = {}  # of the few records that span several lines

    def records() -> Iterator[tuple[int, Record | str]]:
        for first, last, fields in parsed_lines:
            if last > first:
                last_lines[first] = last
            if isinstance(fields, str):
                yield first, fields
            elif len(fields) != len(header):
                plural = "" if len(fields) == 1 else "s"
                yield first, f"{len(fields)} field{plural} where the header has {len(header)}"
            else:
                yield first, dict(zip(header, fields, strict=True))

    def texts(rows: Sequence[int]) -> list[str]:
        spans = (b"\n".join(lines[row - 1 : last_lines.get(row, row)]) for row in rows)
        return [span.removesuffix(b"\r").decode("utf-8", "backslashreplace") for span in spans]

    return replace(gather(records(), texts, location), missing=_MISSING)


def _parsed(lines: list[bytes], delimiter: str) -> Iterator[tuple[int, int, list[str] | str]]:
    """First line, last line and fields of each record, or the reason why there are none.

    A record that cannot be parsed costs one line: otherwise an unclosed quote would swallow all that follows. The other
    lines that it had run through are parsed again, each alone, so that no file takes the parser quadratic time.
    """
    position = 0  # lines that the parser has taken so far
    alone = 0  # lines before this one belonged to a record that failed

    def text() -> Iterator[str]:
        nonlocal position
        while position < len(lines):
            position += 1
            yield lines[position - 1].decode("utf-8", "surrogateescape") + "\n"

    read = partial(csv.reader, delimiter=delimiter, strict=True)
    records = read(text())
    while position < len(lines):
        first = position
        try:
            fields = next(read([next(text())]) if first < alone else records)
        except csv.Error as error:
            alone, position = max(alone, position - 1), first + 1
            records = read(text())  # the old one may have come to the end
            yield position, position, f"not valid CSV: {_parser_message(error)}"
            continue
        if position > first + 1 or lines[first].strip():
            yield first + 1, position, "not UTF-8" if any(map(_UNDECODED.search, fields)) else fields


def _parser_message(error: csv.Error) -> str:
    message = str(error)
    if message == "unexpected end of data":
        return "a quote is not closed"
    return "a bare carriage return" if message.startswith("new-line character") else message


def _header(parsed: tuple[int, int, list[str] | str] | None, location: str) -> list[str]:
    if parsed is None:
        raise PoolError(f"{location} has neither a header nor rows. Write the names of the columns in its first line.")
    header = parsed[2]
    if isinstance(header, str):
        raise PoolError(f"{location} has a header that cannot be read: {header}. Write it as one line of names.")
    if nameless := [place for place, name in enumerate(header, 1) if not name.strip()]:
        raise PoolError(
            f"{location} has no name for column {nameless[0]}. Name it in the header, or leave the column out."
        )
    refuse_repeated_names(header, location)
    return header
