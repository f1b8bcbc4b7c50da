"""MT-Bench's questions, their references, and answers to them, out of FastChat's files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from selectllm import pool
from selectllm.errors import UsageError
from selectllm.evaluation.answers.predictions import FAILURES
from selectllm.paths import redact_url
from selectllm.pool.formats import read_records
from selectllm.pool.records import values
from selectllm.text import one_line

REFERENCED: Final = ("math", "reasoning", "coding")
"""The categories that are judged beside a reference."""

Turns = tuple[str | None, ...]


@dataclass(frozen=True)
class Dialogue:
    """A question of one turn or two; `id` is its question_id as text."""

    id: str
    category: str
    turns: tuple[str, ...]


def read_dialogues(location: str) -> list[Dialogue]:
    """The questions of a file in their order; raises UsageError for one that is none, or stands there twice."""
    found: dict[str, Dialogue] = {}
    for number, row in enumerate(_rows(location), 1):
        id, turns = number_of(row.get("question_id")), row.get("turns")
        texts = tuple(text for text in map(usable, turns if isinstance(turns, list) else []) if text is not None)
        if id is None or not isinstance(turns, list) or not 1 <= len(texts) == len(turns) <= 2:
            raise UsageError(
                f"record {number} of {redact_url(location)} is no question: it needs a question_id, and one turn or two"
            )
        if id in found:
            raise UsageError(f"{redact_url(location)} has the question {one_line(id, 80)} twice: keep one of them")
        found[id] = Dialogue(id, str(row.get("category") or "general"), texts)
    if not found:
        raise UsageError(f"{redact_url(location)} has no questions")
    return list(found.values())


def read_answers(location: str) -> dict[str, Turns]:
    """The turns of the first choice of each line of a model_answer file; a later line counts, as in FastChat.

    A text that is blank, or FastChat's mark of a failure, is None. Raises UsageError where no line has turns.
    """
    found: dict[str, Turns] = {}
    for row in _rows(location):
        id, choices = number_of(row.get("question_id")), row.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        turns = first.get("turns") if isinstance(first, Mapping) else None
        if id is not None and isinstance(turns, list):
            found[id] = tuple(map(usable, turns))
    if not found:
        raise UsageError(f"{redact_url(location)} has no answers: its lines need a question_id, and choices with turns")
    return found


def read_rows(location: str) -> list[Mapping[str, Any]]:
    """The records of a file; raises PoolError where it cannot be read."""
    return list(_rows(location))


def _rows(location: str) -> Iterator[Mapping[str, Any]]:
    file = pool.fetch(location)
    if file.parts:
        raise UsageError(f"{redact_url(location)} is several files: name one")
    records = read_records(file.data, file.location, file.form)
    if records.faults:
        row, fault = next(iter(records.faults.items()))
        raise UsageError(f"row {row} of {redact_url(location)} cannot be read: {fault}. Mend the file")
    columns = [values(records.columns[name]) for name in records.columns]
    for cells in zip(*columns, strict=True):
        yield dict(zip(records.columns, cells, strict=True))


def number_of(value: Any) -> str | None:
    """A question's number as text, whichever way a file has it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) and str(value).strip() else None


def usable(value: Any) -> str | None:
    """A text with something in it, as it can be kept; None for anything else."""
    if not isinstance(value, str) or not value.strip() or value.strip() in FAILURES:
        return None
    return value.encode("utf-8", "replace").decode()
