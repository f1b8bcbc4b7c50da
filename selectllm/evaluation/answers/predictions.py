"""Answers out of files: ours, AlpacaEval's model_outputs.json, FastChat's model_answer, or rows with an output.

An answer belongs to a question by the question's id, ours or its file's own, by its number (`question_id`), or by its
text. An answer to no question is counted, and one that is blank counts as missing, as FastChat's marks of a failure do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from selectllm import pool
from selectllm.errors import UsageError
from selectllm.evaluation.answers.questions import QUESTION_ID, Questions
from selectllm.evaluation.answers.sources import Source
from selectllm.paths import redact_url
from selectllm.pool.formats import read_records
from selectllm.pool.layouts import ColumnsMissing, recognise
from selectllm.pool.questions import layout_of, read_question
from selectllm.pool.records import Records, values
from selectllm.pool.rows import InvalidRow, validate_row
from selectllm.pool.source import is_standard_input
from selectllm.store import digest
from selectllm.text import one_line

FAILURES: Final = ("ERROR", "$ERROR$")
"""What FastChat writes where a model could not answer."""

Turns = tuple[str | None, ...]


@dataclass
class Predictions:
    """The answers of some files: `turns` by question and seed; a text is None where it is missing.

    `digest` is what decides them, `foreign` counts answers to other questions, `unusable` rows that are none.
    """

    digest: str
    turns: dict[tuple[str, int], Turns] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    foreign: int = 0
    unusable: int = 0


def read_predictions(locations: Sequence[str], questions: Questions) -> Predictions:
    """Read the files in their order: the seeds of one are counted on from those of the file before.

    Raises PoolError for a file that cannot be read, UsageError where one answers none of the questions, or one of them
    twice.
    """
    found, files = Predictions(""), []
    for location in locations:
        file = pool.fetch(location)
        if file.parts:
            raise UsageError(f"{redact_url(location)} is several files: name each file of answers by itself")
        files.append([file.digest, file.form])
        shown, records = redact_url(location), read_records(file.data, file.location, file.form)
        found.unusable += len(records.faults)
        before, offset = len(found.turns), len(found.seeds)
        by_seed: dict[int, dict[str, Turns]] = {}
        for id, seed, turns in _answers(records, questions, shown):
            if id is None:
                found.foreign += 1
            elif by_seed.setdefault(seed, {}).setdefault(id, turns) != turns:
                raise UsageError(f"{shown} answers the question {_own(questions, id)} twice: keep one of the answers")
        for place, seed in enumerate(sorted(by_seed)):
            found.turns |= {(id, offset + place): turns for id, turns in by_seed[seed].items()}
        if len(found.turns) == before:
            raise UsageError(
                f"{shown} answers none of the questions of {questions.location}: its rows need the id, the question_id "
                "or the instruction of a question, and an output"
            )
        found.seeds = tuple(range(offset + len(by_seed)))
    found.digest = digest("predictions", files)
    return found


def check_files(sources: Iterable[Source], questions: Questions) -> None:
    """Read the files of all sources that have some, before a model of another is asked; raises as for one of them.

    Standard input is left out: it can be read once, by the source's own step.
    """
    for source in sources:
        if source.files and not any(map(is_standard_input, source.files)):
            read_predictions(source.files, questions)


def _own(questions: Questions, id: str) -> str:
    return next(one_line(row.own_id, 80) for row in questions.rows if row.id == id)


def _answers(records: Records, questions: Questions, shown: str) -> Iterator[tuple[str | None, int, Turns]]:
    """Of each answer the question's id, None where there is no such question, its seed and its turns."""
    rows = _rows(records)
    if "choices" in records.columns:
        for row in rows:
            for number, turns in _choices(row.get("choices")):
                yield _by_number(row, questions), number, turns
        return
    named = {name for name in ("answer", "output") if name in records.columns}
    texts = list(_texts(records, shown)) if not named or "instruction" in records.columns else []
    for place, row in enumerate(rows):
        answer = next((row[name] for name in ("answer", "output") if name in named), None)
        instruction, input, output = texts[place] if texts else (None, None, None)
        id = _by_id(row.get("id"), questions) or _by_number(row, questions)
        if id is None and instruction is not None:
            id = questions.ids.get(pool.row_id(instruction, input))
        yield id, _seed(row.get("seed")), (_usable(answer if named else output),)


def _seed(value: Any) -> int:
    """A row's seed; 0 where it names none that is a whole number."""
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole else 0


def _rows(records: Records) -> list[Mapping[str, Any]]:
    names = list(records.columns)
    columns = [values(records.columns[name]) for name in names]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _choices(choices: Any) -> Iterator[tuple[int, Turns]]:
    """The turns of each choice of a line of FastChat's, by the choice's number."""
    for number, choice in enumerate(choices if isinstance(choices, list) else []):
        turns = choice.get("turns") if isinstance(choice, Mapping) else None
        yield number, tuple(map(_usable, turns)) if isinstance(turns, list) else (None,)


def _by_id(id: Any, questions: Questions) -> str | None:
    return None if id is None else questions.ids.get(str(id)) or questions.source_ids.get(str(id))


def _by_number(row: Mapping[str, Any], questions: Questions) -> str | None:
    number = row.get(QUESTION_ID)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return None if number is None else questions.own_ids.get(str(number)) or questions.ids.get(str(number))


def _texts(records: Records, shown: str) -> Iterator[tuple[str | None, str | None, str | None]]:
    """The texts of each row as a pool's layouts say; None where the row has none that can be read."""
    columns = pool.Columns()
    try:
        layouts = recognise(records.columns, columns, shown)
    except ColumnsMissing:
        yield from ((None, None, None) for _ in records.rows)
        return
    for row in _rows(records):
        layout = layout_of(row, layouts)
        try:
            question = read_question(row, layout, columns)
            yield validate_row(question.instruction, question.input, question.output)
        except InvalidRow:
            yield None, None, None


def _usable(value: Any) -> str | None:
    """A text with something in it, as it can be kept; None for anything else."""
    if not isinstance(value, str) or not value.strip() or value.strip() in FAILURES:
        return None
    return value.encode("utf-8", "replace").decode()
