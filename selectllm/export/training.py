"""Writes answered rows as a file to train on."""

from pathlib import Path
from typing import Any, Final, get_args

from selectllm.errors import UsageError
from selectllm.export.annotations import KEEP_IDS, SAVE_AS_UTF8, AnnotatedSelection
from selectllm.export.names import Several, Training
from selectllm.export.turns import messages_of
from selectllm.pool.json_lines import LINE_ENDS
from selectllm.store.new_files import write_new
from selectllm.text import join_names, json_text

IDS_SHOWN: Final = 3
"""Ids that the error names where none is of the run."""

_FROM: Final = {"user": "human", "assistant": "gpt", "system": "system"}


def write_training(annotated: AnnotatedSelection, to: Training, path: str | Path, several: Several = "first") -> int:
    """Write the answered rows as JSON lines, each with its id, in the selection's order; returns how many.

    `path` is a new file: nothing that exists is written over. Raises UsageError where it cannot be taken or nothing was
    answered, StoreError when writing fails.
    """
    if to not in get_args(Training):
        raise UsageError(f"--to cannot be {to!r}: use one of {', '.join(get_args(Training))}")
    rows = training_rows(annotated, to, several)
    if not rows:
        raise UsageError(
            f"no chosen row has an answer that may be used: there is nothing to write. {_why_none(annotated)}"
        )
    content = "".join(json_text(row).translate(LINE_ENDS) + "\n" for row in rows).encode()
    write_new(Path(path).expanduser(), {"": content}, annotated.chosen.store.location)
    return len(rows)


def training_rows(annotated: AnnotatedSelection, to: Training, several: Several = "first") -> list[dict[str, Any]]:
    """The rows of a training file."""
    columns = annotated.chosen.columns
    rows = [row for row in annotated.chosen.rows() if row["id"] in annotated.answers]
    if to == "alpaca":
        return [
            {**{name: row[name] or "" for name in ("id", "instruction", "input")}, "output": answer}
            for row in rows
            for answer in _answers(annotated, row["id"], several)
        ]
    examples = (
        (row["id"], [*messages_of(row, columns), {"role": "assistant", "content": answer}])
        for row in rows
        for answer in _answers(annotated, row["id"], several)
    )
    if to == "messages":
        return [{"id": id, "messages": messages} for id, messages in examples]
    return [
        {"id": id, "conversations": [{"from": _FROM[turn["role"]], "value": turn["content"]} for turn in messages]}
        for id, messages in examples
    ]


def _why_none(annotated: AnnotatedSelection) -> str:
    """What is known of the reason why no row has an answer that may be used, and what to do."""
    run = annotated.chosen.record.run
    if annotated.may_be_of_another_run:
        ids = join_names(annotated.unknown, IDS_SHOWN)
        return f"Not in the selection of run {run}: {ids}. Are they annotations of another run? Name it with --run"
    if annotated.answers:
        return "All answers are disputed: settle them, or choose with --several"
    if annotated.without_id:
        return f"Records without an id: {annotated.without_id:,}. {KEEP_IDS}"
    if annotated.has_undecoded:
        return f"Rows of the files are not UTF-8. {SAVE_AS_UTF8}"
    return "Read them without --to to see which rows are skipped, empty or missing"


def _answers(annotated: AnnotatedSelection, id: str, several: Several) -> list[str]:
    """The answers of a row that count."""
    answers = [annotation.answer for annotation in annotated.answers[id]]
    match several:
        case "all":
            return list(dict.fromkeys(answers))
        case "longest":
            return [max(answers, key=len)]
        case "none-if-disputed" if id in set(annotated.disputed):
            return []
        case "first" | "none-if-disputed":
            return answers[:1]
        case _:
            raise UsageError(f"--several cannot be {several!r}: use one of {', '.join(get_args(Several))}")
