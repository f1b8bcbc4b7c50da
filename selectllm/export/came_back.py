"""Reads files of annotations: exports of Label Studio, Argilla and OpenAI's batches, and tables of ids and answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from selectllm.errors import UsageError
from selectllm.export.names import ANSWER, PROBLEM, PROBLEMS
from selectllm.paths import redact_url
from selectllm.pool.annotated import ID_NAMES, ROW_ID
from selectllm.pool.formats import read_records
from selectllm.pool.records import Records, values
from selectllm.pool.rows import is_missing
from selectllm.pool.source import fetch_bytes
from selectllm.text import escape_surrogates, join_names, json_text

ANSWERS: Final = (ANSWER, "output", "response", "completion")
"""Columns that hold answers, best first."""

_ANNOTATORS: Final = ("annotator", "annotator_id", "completed_by", "user_id")
_TIMES: Final = ("updated_at", "created_at")
FAILED: Final = "failed"
"""The problem of a request in a batch that has no answer."""

Record = Mapping[str, Any]


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


def read_annotations(location: str, answer_column: str | None = None) -> tuple[list[Annotation], dict[int, str]]:
    """The annotations of a file in its order, and the reasons why rows of it could not be read, by their numbers.

    Where no column names the annotator, the file counts as one annotator. Raises PoolError where the file cannot be
    read, UsageError where it holds no answers that are known as such.
    """
    records = read_records(fetch_bytes(location), location)
    names, columns = list(records.columns), [values(column) for column in records.columns.values()]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    name = redact_url(location)
    if answer_column is None and _all_are(rows, data=Mapping, annotations=list):
        return [annotation for task in rows for annotation in _of_task(task, name)], records.faults
    if answer_column is None and _all_are(rows, fields=Mapping, responses=Mapping):
        return [annotation for record in rows for annotation in _of_argilla(record)], records.faults
    if answer_column is None and "custom_id" in names and "response" in names:
        return [_of_batch(record, name) for record in rows], records.faults
    column = _answer_column(records, answer_column, name)
    return [_of_table(record, column, name) for record in rows], records.faults


def _all_are(rows: Sequence[Record], **types: type) -> bool:
    """Whether all rows have values of these types in these columns, as no table of a pool's own columns happens to."""
    return bool(rows) and all(isinstance(row.get(name), type_) for row in rows for name, type_ in types.items())


def _answer_column(records: Records, named: str | None, location: str) -> str:
    if named is not None and named not in records.columns:
        raise UsageError(f"{location} has no column {named!r}: its columns are {join_names(records.columns)}")
    column = named or next((name for name in ANSWERS if name in records.columns), None)
    if column is None and PROBLEM not in records.columns:  # where all was skipped, there is no column of answers
        raise UsageError(
            f"{location} has none of the columns {', '.join(ANSWERS)}: its columns are {join_names(records.columns)}. "
            "Name the one that holds the answers with --answer-column"
        )
    return column or ANSWER


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
        yield Annotation(id, answer, annotator or location, problem, _time(annotation))


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
    messages = [_record(choice.get("message")) for choice in _records(body.get("choices"))]
    answer = _text(messages[0].get("content")) if messages else ""
    problem = FAILED if record.get("error") or response.get("status_code") != 200 else ""
    return Annotation(_text(record["custom_id"]) or None, answer, _text(body.get("model")) or location, problem)


def _of_table(record: Record, column: str, location: str) -> Annotation:
    """A row of a table, such as Label Studio's JSON-MIN and CSV."""
    id = next((record[name] for name in ID_NAMES if not is_missing(record.get(name))), None)
    annotator = next((_text(record[name]) for name in _ANNOTATORS if _text(record.get(name))), location)
    answer, problem = (_text(record.get(name)) for name in (column, PROBLEM))
    return Annotation(_text(id) or None, answer, annotator, problem, _time(record))


def _record(value: Any) -> Record:
    return value if isinstance(value, Mapping) else {}


def _records(value: Any) -> list[Record]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _time(record: Record) -> str:
    return next((_text(record[name]) for name in _TIMES if _text(record.get(name))), "")


def _text(value: Any) -> str:
    """A value as text without space around it: what was written in parts, on lines of their own."""
    if is_missing(value):
        return ""
    if isinstance(value, Mapping):  # as Label Studio holds what was written or chosen
        value = value.get("text", value.get("choices", value))
    if isinstance(value, list):
        return "\n".join(filter(None, map(_text, value)))
    return escape_surrogates(value).strip() if isinstance(value, str) else json_text(value)
