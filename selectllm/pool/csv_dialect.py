"""How a file of separated values is written: its separator, its spaces and its header."""

import csv
import re
from dataclasses import dataclass
from typing import Final

from selectllm.errors import PoolError
from selectllm.pool.records import NOT_UTF8, NoRows, refuse_repeated_names

BOM: Final = "\ufeff"
INDEX: Final = "index"
"""What a first column without a name is called: pandas and R write the numbers of their rows there."""

_SEPARATORS: Final = (",", ";", "\t", "|")
_SEP_LINE: Final = re.compile(rb"""\s*"?sep=([,;|\t])"?\s*""", re.IGNORECASE)  # Excel's
_QUOTED: Final = re.compile('"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Dialect:
    """How the records of a file are divided into fields; `start` is the number of lines before the header's."""

    separator: str
    skips_spaces: bool
    start: int

    @property
    def is_plain(self) -> bool:
        """Whether fields are usually written without quotes, so that a quote may be a part of the text."""
        return self.separator == "\t"


def recognise_dialect(lines: list[bytes], usual: str) -> Dialect:
    """How a file is written, by its header: the usual separator where the header has it, else the most frequent one."""
    start = next((number for number, line in enumerate(lines) if line.strip()), 0)
    named = _SEP_LINE.fullmatch(lines[start])
    if named and start + 1 < len(lines):
        return Dialect(named[1].decode(), _has_spaces(_decoded(lines[start + 1]), named[1].decode()), start + 1)
    header = _decoded(lines[start])
    names = _QUOTED.sub("", header)
    separator = usual if usual in names else max(_SEPARATORS, key=names.count)
    if separator not in names:
        separator = usual
    return Dialect(separator, _has_spaces(header, separator), start)


def column_names(parsed: list[str] | str | None, location: str) -> list[str]:
    """The names in a header, without spaces around them; raises PoolError where columns cannot be told apart."""
    if parsed is None:
        raise NoRows(f"{location} has neither a header nor rows. Write the names of the columns in its first line.")
    if isinstance(parsed, str):
        remedy = "Save the file as UTF-8" if parsed == NOT_UTF8 else "Write it as one line of names"
        raise PoolError(f"{location} has a header that cannot be read: {parsed}. {remedy}.")
    names = [name.strip().strip(BOM) for name in parsed]
    if not names[0] and len(names) > 1 and INDEX not in names:
        names[0] = INDEX
    if nameless := [place for place, name in enumerate(names, 1) if not name]:
        raise PoolError(
            f"{location} has no name for column {nameless[0]}. Name it in the header, or leave the column out."
        )
    refuse_repeated_names(names, location)
    return names


def parser_message(error: csv.Error) -> str:
    """What is wrong with a record, in fewer words than the parser's."""
    message = str(error)
    if message == "unexpected end of data":
        return "a quote is not closed"
    return "a bare carriage return" if message.startswith("new-line character") else message


def _has_spaces(header: str, separator: str) -> bool:
    """Whether a space follows each separator, as people write it."""
    return separator != "\t" and re.search(f'{re.escape(separator)} +["\\w]', header) is not None


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "replace")
