"""JSON lines and JSON lists, as records."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

from selectllm.errors import PoolError
from selectllm.pool.parts import Spill
from selectllm.pool.records import NOT_UTF8, Record, Records, gather
from selectllm.text import json_text, type_name

_MAX_DEPTH: Final = 64  # far beyond any real row, and far below what the writers of JSON and Parquet can follow
_WRAPPERS: Final = ("data", "examples", "instances", "items", "records", "rows", "train")
_TOO_DEEP: Final = f"nested more than {_MAX_DEPTH} levels deep"


def read_lines(data: bytes, location: str, spill: Spill) -> Records:
    """JSON lines, numbered from 1; lines of nothing but space are no rows. Or a JSON list, under a wrong name."""
    if _is_list_of_objects(data):
        return read_json(data, location, spill)

    def texts(rows: Sequence[int]) -> Iterator[str]:
        wanted = iter(rows)
        row = next(wanted, None)
        for number, line in _numbered_lines(data) if row else ():
            if number == row:
                yield line.decode("utf-8", "backslashreplace")
                row = next(wanted, None)

    return gather(_parsed(data), texts, location, spill)


def read_json(data: bytes, location: str, spill: Spill) -> Records:
    """A JSON list of objects, numbered from 1; or JSON lines, which are often published under the name `.json`."""
    if re.match(rb"\s*\{", data):
        records = read_lines(data, location, spill)
        if not records.faults:
            _refuse_wrapped_rows(data, location)
            return records
        try:
            json.loads(data.decode())
        except (ValueError, RecursionError):
            return records
        raise PoolError(
            f"{location} holds one JSON object where a list of objects is needed. "
            "Write [{...}, {...}], or JSON lines with each object on a line of its own."
        )
    try:
        items = json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise PoolError(f"{location} is not UTF-8 at byte {error.start}. Save it as UTF-8.") from error
    except RecursionError as error:
        raise PoolError(f"{location} is {_TOO_DEEP}. Flatten it into a list of objects.") from error
    except ValueError as error:
        line = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise PoolError(
            f"{location} is not valid JSON{line}: {_parser_message(error)}. Mend it, or write JSON lines (.jsonl)."
        ) from error
    if not isinstance(items, list):
        raise PoolError(
            f"{location} holds {type_name(items)} where a list of objects is needed. Write [{{...}}, {{...}}]."
        )

    def texts(rows: Sequence[int]) -> Iterator[str]:
        return (_TOO_DEEP if _is_too_deep(item) else json_text(item) for item in (items[row - 1] for row in rows))

    return gather(((row, _record(item)) for row, item in enumerate(items, 1)), texts, location, spill)


def _refuse_wrapped_rows(data: bytes, location: str) -> None:
    """Raise PoolError for one object that holds a list of rows under a name that says no more, and no text."""
    try:
        whole = json.loads(data.decode())
    except (ValueError, RecursionError):  # several objects
        return
    if any(isinstance(value, str) for value in whole.values()):
        return
    for name in _WRAPPERS:
        rows = whole.get(name)
        if rows and isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
            raise PoolError(f"{location} holds its rows within {name!r}. Write that list alone: `jq .{name} FILE`.")


def _is_list_of_objects(data: bytes) -> bool:
    if not re.match(rb"\s*\[\s*\{", data):
        return False
    try:
        json.loads(data.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _numbered_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines, from 1, without their ends: one at a time, since all of them would take the file's size once more."""
    for row, line in enumerate(io.BytesIO(data), 1):  # not str.splitlines, which also splits at U+2028 inside a text
        yield row, line.removesuffix(b"\n").removesuffix(b"\r")


def _parsed(data: bytes) -> Iterator[tuple[int, Record | str]]:
    for row, line in _numbered_lines(data):
        try:
            text = line.decode()
            if text and not text.isspace():
                yield row, _record(json.loads(text))
        except UnicodeDecodeError:
            yield row, NOT_UTF8
        except RecursionError:
            yield row, _TOO_DEEP
        except ValueError as error:
            yield row, f"not valid JSON: {_parser_message(error)}"


def _record(value: object) -> Record | str:
    if not isinstance(value, dict):
        return f"not a JSON object but {type_name(value)}"
    return _TOO_DEEP if _is_too_deep(value) else value


def _is_too_deep(value: object, levels: int = _MAX_DEPTH) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    nested = [item for item in (value.values() if isinstance(value, dict) else value) if isinstance(item, (dict, list))]
    return bool(nested) and (levels <= 1 or any(_is_too_deep(item, levels - 1) for item in nested))


def _parser_message(error: ValueError) -> str:
    """The parser's message, without the words that lead up to a position."""
    if isinstance(error, json.JSONDecodeError):
        return re.sub(r"( starting)? at$", "", error.msg)
    return "a number has too many digits"  # the only other ValueError: Python's guard against slow conversions
