"""Comma- and tab-separated values with a header, as records whose values are all text."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from selectllm.pool.csv_dialect import BOM, Dialect, column_names, parser_message, recognise_dialect
from selectllm.pool.parts import Spill
from selectllm.pool.records import NOT_UTF8, Record, Records, gather

_MAX_FIELD: Final = 2**31 - 1  # the most that every platform takes
_MISSING: Final = frozenset({"NaN", "nan", "null", "NULL", r"\N"})  # as pandas and databases write it
_UNDECODED: Final = re.compile("[\udc80-\udcff]")  # what bytes that are not UTF-8 are decoded as

_Parsed = tuple[int, int, list[str] | str]
"""The first line, the last line and the fields of a record, or the reason why it has none."""


def read_csv(data: bytes, location: str, spill: Spill, delimiter: str = ",") -> Records:
    """Separated values; a row's number is the line on which it begins, the header's line being 1."""
    csv.field_size_limit(_MAX_FIELD)
    lines = data.split(b"\n")
    dialect = recognise_dialect(lines, delimiter)
    parsed_lines = _parsed(lines, dialect)
    first_record = next(parsed_lines, None)
    header = column_names(first_record and first_record[2], location)
    last_lines: dict[int, int] = {}  # of the few records that span several lines

    def records() -> Iterator[tuple[int, Record | str]]:
        for first, last, fields in parsed_lines:
            if last > first:
                last_lines[first] = last
            if isinstance(fields, str):
                yield first, fields
            elif first_record and _is_header(fields, first_record[2]):
                yield first, "the header once more"
            elif len(fields) != len(header):
                plural = "" if len(fields) == 1 else "s"
                yield first, f"{len(fields)} field{plural} where the header has {len(header)}"
            else:
                yield first, dict(zip(header, fields, strict=True))

    def texts(rows: Sequence[int]) -> Iterator[str]:
        spans = (b"\n".join(lines[row - 1 : last_lines.get(row, row)]) for row in rows)
        return (span.removesuffix(b"\r").decode("utf-8", "backslashreplace") for span in spans)

    gathered = gather(records(), texts, location, spill)
    return replace(gathered, missing=[_MISSING] * len(gathered.rows))


def _is_header(fields: list[str], header: list[str] | str) -> bool:
    """Whether a record is the header of a file that was put behind another one."""
    return fields[0].lstrip(BOM) == header[0].lstrip(BOM) and fields[1:] == header[1:]


def _parsed(lines: list[bytes], dialect: Dialect) -> Iterator[_Parsed]:
    """Each record of the file, the header among them, with the quotes that are a part of plain text left in it."""
    width = 0
    for first, last, fields in _quoted(lines, dialect):
        if dialect.is_plain and (isinstance(fields, str) or last > first):
            plain = [_plain_fields(line, dialect) for line in lines[first - 1 : last]]
            if isinstance(fields, str) or (width > 1 and all(len(line) == width for line in plain)):
                yield from ((row, row, _checked(line)) for row, line in enumerate(plain, first))
                continue
        width = width or len(fields)
        yield first, last, fields if isinstance(fields, str) else _checked(fields)


def _plain_fields(line: bytes, dialect: Dialect) -> list[str]:
    text = line.decode("utf-8", "surrogateescape")
    return text.removesuffix("\r").split(dialect.separator)


def _checked(fields: list[str]) -> list[str] | str:
    return NOT_UTF8 if any(map(_UNDECODED.search, fields)) else fields


def _quoted(lines: list[bytes], dialect: Dialect) -> Iterator[_Parsed]:
    """Each record by the rules of CSV.

    A record that cannot be parsed costs one line: otherwise an unclosed quote would swallow all that follows. The other
    lines that it had run through are parsed again, each alone, so that no file takes the parser quadratic time.
    """
    position = dialect.start  # lines that the parser has taken so far
    alone = 0  # lines before this one belonged to a record that failed

    def text() -> Iterator[str]:
        nonlocal position
        while position < len(lines):
            position += 1
            yield lines[position - 1].decode("utf-8", "surrogateescape") + "\n"

    read = partial(csv.reader, delimiter=dialect.separator, skipinitialspace=dialect.skips_spaces, strict=True)
    records = read(text())
    while position < len(lines):
        first = position
        try:
            fields = next(read([next(text())]) if first < alone else records)
        except csv.Error as error:
            alone, position = max(alone, position - 1), first + 1
            records = read(text())  # the old one may have come to the end
            yield position, position, f"not valid CSV: {parser_message(error)}"
            continue
        if position > first + 1 or lines[first].strip():
            yield first + 1, position, fields
