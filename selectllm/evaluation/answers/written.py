"""Answers as files: our JSONL, AlpacaEval's model_outputs.json, and FastChat's model_answer.

The shapes are those of tatsu-lab/alpaca_eval (a JSON list of instruction, output, generator) and of lm-sys/FastChat
(JSONL of question_id, answer_id, model_id, choices with turns, tstamp). Nothing in them depends on the clock, so that
the same answers give the same file: `tstamp` is 0.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.evaluation.answers.questions import Questions
from selectllm.pool.json_lines import LINE_ENDS
from selectllm.store import digest
from selectllm.text import json_text

Rows = Sequence[Mapping[str, Any]]


def as_file(answers: pa.Table, questions: Questions, name: str, form: str) -> bytes:
    """The bytes of ANSWERS in a form; only our own JSONL has a line for an answer that is missing.

    Raises UsageError for model_outputs of several seeds, which AlpacaEval takes in files of their own.
    """
    rows = answers.to_pylist()
    if form == "model-answer":
        return json_lines(_model_answer(rows, name))
    if form == "model-outputs":
        return _model_outputs(rows, questions, name)
    about = {row.id: row for row in questions.rows}
    lines = []
    for row in rows:
        question = about[row["id"]]
        texts = {"instruction": question.instruction, "input": question.input, "output": row["answer"]}
        numbers = {"id": row["id"], "question_id": row["question_id"], "seed": row["seed"]}
        lines.append(numbers | texts | {"generator": name, "is_cut": row["is_cut"]})
    return json_lines(lines)


def json_lines(values: Sequence[Mapping[str, Any]]) -> bytes:
    """Values as JSONL; what some readers break lines at is written as an escape inside a text."""
    return b"".join(json_text(value).translate(LINE_ENDS).encode() + b"\n" for value in values)


def _model_outputs(rows: Rows, questions: Questions, name: str) -> bytes:
    if len({row["seed"] for row in rows}) > 1:
        raise UsageError("--as model-outputs holds one answer to a question: ask with --seeds 1, once for each --seed")
    texts = {row.id: row.text for row in questions.rows}
    found = [
        {"instruction": texts[row["id"]], "output": row["answer"], "generator": name}
        for row in rows
        if row["answer"] is not None
    ]
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def _model_answer(rows: Rows, name: str) -> list[dict[str, Any]]:
    """A line for each question, with a choice for each seed; a question without all its answers has no line."""
    by_question: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_question.setdefault(row["question_id"], []).append(row)
    lines = []
    for number, answers in by_question.items():
        if any(row["answer"] is None for row in answers):
            continue
        choices = [{"index": index, "turns": [row["answer"]]} for index, row in enumerate(answers)]
        lines.append(model_answer_line(number, name, choices))
    return lines


def model_answer_line(number: str, name: str, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A line of FastChat's model_answer; the answer's id is a digest of what it says."""
    own_number = int(number) if number.isascii() and number.isdecimal() else number
    answer_id = digest(number, name, list(choices))[:22]
    return {"question_id": own_number, "answer_id": answer_id, "model_id": name, "choices": choices, "tstamp": 0.0}
