"""Reads files of annotations: exports of Label Studio, Argilla and OpenAI's batches, and tables of ids and answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from selectllm.errors import UsageError
from selectllm.export.chosen import Chosen
from selectllm.export.names import ANNOTATORS, ANSWER, PROBLEM, PROBLEMS, TIMES
from selectllm.export.returned_table import Record, ReturnedTable
from selectllm.llm.openai_replies import DONE_REASONS
from selectllm.paths import redact_url
from selectllm.pool.annotated import ROW_ID
from selectllm.pool.formats import read_records
from selectllm.pool.records import values
from selectllm.pool.rows import is_missing
from selectllm.pool.source import fetch_bytes
from selectllm.text import escape_surrogates, join_names, json_text

FAILED: Final = "failed"
"""The problem of a request in a batch that has no answer."""

CUT_SHORT: Final = "cut short"
REFUSED: Final = "refused"
_NOT_ENDED: Final = {"length": CUT_SHORT, "content_filter": REFUSED}
"""The problems of a model's answer that ended at its limit of tokens, or that it or the provider refused."""

UNCHANGED: Final = "unchanged"
"""The problem of an answer that is the one that the pool had, in the pool's own column."""


@dataclass(frozen=True)
class Annotation:
    """What one annotator made of one row.

    `id` is the row's, None where the record names none; `answer` is "" where nothing was written; `problem` says what
    stands in the place of an answer, such as "skip"; `when` is a time that sorts as text, or "".
    """

    id: str | None
    answer: str
    annotator: str
    problem: str = ""
    when: str = ""


def read_annotations(
    location: str, answer_column: str | None = None, chosen: Chosen | None = None
) -> tuple[list[Annotation], dict[int, str]]:
    """The annotations of a file in its order, and the reasons why rows of it could not be read, by their numbers.

    Parameters: `chosen`, the selection that they are of, whose own columns are no annotations. Where no column names
    the annotator, the file counts as one annotator. Raises PoolError where the file cannot be read, UsageError where it
    holds no answers that are known as such.
    """
    records = read_records(fetch_bytes(location), location)
    names, columns = list(records.columns), [values(column) for column in records.columns.values()]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    name = redact_url(location)
    if not rows:  # its faults say why
        return [], records.faults
    if answer_column is None and "picked_by" not in names:  # a selection can carry columns of these names
        if _all_are(rows, data=Mapping, annotations=list):
            return [annotation for task in rows for annotation in _of_task(task, name)], records.faults
        if _all_are(rows, fields=Mapping, responses=Mapping):
            return [annotation for record in rows for annotation in _of_argilla(record)], records.faults
        if "custom_id" in names and "response" in names:
            return [_of_batch(record, name) for record in rows], records.faults
    sent = {} if chosen is None else {row["id"]: row for row in chosen.rows()}
    return _of_table(ReturnedTable(names, rows, name, sent), answer_column), records.faults


def _all_are(rows: Sequence[Record], **types: type) -> bool:
    """Whether all rows have values of these types in these columns, as no table of a pool's own columns happens to."""
    return bool(rows) and all(isinstance(row.get(name), type_) for row in rows for name, type_ in types.items())


def _of_task(task: Record, location: str) -> Iterator[Annotation]:
    """The annotations of a task of Label Studio's JSON export; Skip cancels one."""
    id = _text(task["data"].get(ROW_ID)) or None
    for annotation in _records(task["annotations"]):
        results = _records(annotation.get("result"))
        answer, problem = (
            _text([result.get("value") for result in results if result.get("from_name") == name])
            for name in (ANSWER, PROBLEM)
        )
        by = annotation.get("completed_by")
        annotator = _text(by.get("email") or by.get("id")) if isinstance(by, Mapping) else _text(by)
        problem = PROBLEMS[0] if annotation.get("was_cancelled") else problem
        yield Annotation(id, answer, annotator or location, problem, _first(annotation, TIMES))


def _of_argilla(record: Record) -> Iterator[Annotation]:
    """The responses of an Argilla record, one annotation for each user."""
    by_user: dict[str, dict[str, str]] = {}
    for question in (ANSWER, PROBLEM):
        for response in _records(record["responses"].get(question)):
            user = by_user.setdefault(_text(response.get("user_id")), {})
            status = response.get("status")  # the SDK's own files have none
            user[question] = "" if status == "draft" else _text(response.get("value"))
            if status == "discarded":
                user[PROBLEM] = PROBLEMS[0]
    for user_id, found in by_user.items():
        yield Annotation(_text(record.get("id")) or None, found.get(ANSWER, ""), user_id, found.get(PROBLEM, ""))


def _of_batch(record: Record, location: str) -> Annotation:
    """A line of the output of one of OpenAI's batches; the model is the annotator."""
    response = _record(record["response"])
    body = _record(response.get("body"))
    choice = next(iter(_records(body.get("choices"))), {})
    message = _record(choice.get("message"))
    answer = _text(message.get("content"))
    if record.get("error") or response.get("status_code") != 200:
        problem = FAILED
    else:  # an answer that was not ended is one that nobody would train on
        problem = _NOT_ENDED.get(DONE_REASONS.get(str(choice.get("finish_reason")).lower(), ""), "")
        problem = REFUSED if message.get("refusal") else problem
    return Annotation(_text(record["custom_id"]) or None, answer, _text(body.get("model")) or location, problem)


def _of_table(table: ReturnedTable, named: str | None) -> list[Annotation]:
    """The rows of a table, such as Label Studio's JSON-MIN and CSV, and our own files with answers filled in."""
    if named is not None and named not in table.names:
        raise UsageError(f"{table.location} has no column {named!r}: its columns are {join_names(table.names)}")
    answers, problems = named or table.answers(), table.written(PROBLEM)
    annotators, times = (
        [column for name in names if (column := table.written(name)) is not None] for names in (ANNOTATORS, TIMES)
    )
    found = []
    for record in table.rows:
        answer, problem = (_text(record[column]) if column else "" for column in (answers, problems))
        if named is None and answers and not problem and table.is_unchanged(record, answers):
            problem = UNCHANGED
        annotator = _first(record, annotators) or table.location
        found.append(Annotation(_text(table.id_of(record)) or None, answer, annotator, problem, _first(record, times)))
    return found


def _record(value: Any) -> Record:
    return value if isinstance(value, Mapping) else {}


def _records(value: Any) -> list[Record]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _first(record: Record, columns: Sequence[str]) -> str:
    """The first text of columns that have one."""
    return next((text for column in columns if (text := _text(record.get(column)))), "")


def _text(value: Any) -> str:
    """A value as text without space around it: what was written in parts, on lines of their own."""
    if is_missing(value):
        return ""
    if isinstance(value, Mapping):  # as Label Studio holds what was written or chosen
        value = value.get("text", value.get("choices", value))
    if isinstance(value, list):
        return "\n".join(filter(None, map(_text, value)))
    return escape_surrogates(value).strip() if isinstance(value, str) else json_text(value)
