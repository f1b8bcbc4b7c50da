"""The step that gives the artifact `answers`: a model's answers to questions, asked for or read from files."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa

from selectllm.evaluation.answers import answer_question
from selectllm.evaluation.answers.answer_question import AnswerQuestion
from selectllm.evaluation.answers.predictions import read_predictions
from selectllm.evaluation.answers.questions import Questions
from selectllm.llm.caller import LongestRequest
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import ModelInfo
from selectllm.ranking.row_questions import Asking
from selectllm.ranking.thinking import name_of
from selectllm.schemas import ANSWERS
from selectllm.steps.ask_rows import ask_about_rows
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.model import is_acceptable

CODE_VERSION: Final = 1
"""Raise it when the same replies or files are to give another table, or its facts get other names."""


def ask_answers(
    context: Context, model: ModelInfo, questions: Questions, seeds: Sequence[int], max_tokens: int
) -> StepResult:
    """Have a model answer every question by every seed, at temperature 0; ANSWERS.

    Raises ModelError, CostExceeded, Stopped, and TooManyAbstained when more questions than `--max-abstained` allows
    have no usable answer. All replies are kept.
    """
    entry = answers_entry(context, model, questions, seeds, max_tokens)
    if result := entry.load():
        return result
    asked = asked_of(model, questions, seeds, max_tokens)
    asking = ask_about_rows(context, model, "answers", asked, longest_of(asked))
    rows = [{**_row(question), **_answered(question, asking)} for question in asked]
    stats = asking.stats
    stats.errors_by_kind += asking.without_reply
    saved = entry.save(_table(rows), stats.facts() | _facts(questions, rows), **stats.paid())
    if stats.abstained:
        note_end(context.store, model)
    return saved


def answers_entry(
    context: Context, model: ModelInfo, questions: Questions, seeds: Sequence[int], max_tokens: int
) -> CacheEntry:
    """Where a model's answers are kept."""
    decisive = {"model": model.digest, "name": model.name, "think": name_of(model.think), "max_tokens": max_tokens}
    decisive |= {"seeds": list(seeds), "prompts": answer_question.CODE_VERSION}
    acceptable = partial(is_acceptable, context.settings, None)
    return CacheEntry(context.store, "answers", CODE_VERSION, {"questions": questions.digest}, decisive, acceptable)


def asked_of(model: ModelInfo, questions: Questions, seeds: Sequence[int], max_tokens: int) -> list[AnswerQuestion]:
    """All that a model is asked: each question by each seed."""
    return [AnswerQuestion(row, seed, max_tokens, model.think) for row in questions.rows for seed in seeds]


def take_answers(context: Context, files: Sequence[str], questions: Questions) -> StepResult:
    """Take answers that files hold, each file's seeds after those of the file before; ANSWERS.

    Raises UsageError and PoolError where a file cannot be read, or is about other questions.
    """
    found = read_predictions(files, questions)
    inputs = {"questions": questions.digest, "predictions": found.digest}
    entry = CacheEntry(context.store, "answers", CODE_VERSION, inputs, {})
    if result := entry.load():
        return result
    rows = []
    for question in questions.rows:
        for seed in found.seeds:
            turns = found.turns.get((question.id, seed)) or (None,)
            texts = {"answer": turns[0], "is_cut": None, "reply": None}
            rows.append({"id": question.id, "question_id": question.own_id, "seed": seed, **texts})
    return entry.save(_table(rows), _facts(questions, rows) | {"foreign": found.foreign, "unusable": found.unusable})


def longest_of(asked: Sequence[AnswerQuestion]) -> LongestRequest:
    """The longest of some questions, and the most room that an answer has."""
    requests = [question.request() for question in asked]
    return LongestRequest(
        max(len(request.whole_text.encode()) for request in requests), max(request.max_tokens for request in requests)
    )


def _row(question: AnswerQuestion) -> dict[str, Any]:
    return {"id": question.id, "question_id": question.question.own_id, "seed": question.seed}


def _answered(question: AnswerQuestion, asking: Asking) -> dict[str, Any]:
    answer = asking.answers.get(question.name)
    if answer is None:
        return {"answer": None, "is_cut": None, "reply": None}
    text, is_cut = answer.value
    return {"answer": text, "is_cut": is_cut, "reply": answer.reply}


def _facts(questions: Questions, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "questions": len(questions.rows),
        "left_out": questions.left_out,
        "repeats": questions.repeats,
        "seeds": len({row["seed"] for row in rows}),
        "answered": sum(row["answer"] is not None for row in rows),
        "missing": sum(row["answer"] is None for row in rows),
        "cut": sum(bool(row["is_cut"]) for row in rows),
    }


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ANSWERS)
