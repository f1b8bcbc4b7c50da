"""The step that gives the artifact `conversations`: a model's answers to all turns, each after those before it."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa

from selectllm.evaluation.answers import answer_question
from selectllm.evaluation.answers.answer import longest_of
from selectllm.evaluation.answers.answer_question import AnswerQuestion
from selectllm.evaluation.answers.questions import Question
from selectllm.evaluation.mt_bench.questions import Dialogue, Turns
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import ModelInfo, Turn
from selectllm.ranking.row_questions import Asking
from selectllm.ranking.stats import RankingStats
from selectllm.ranking.thinking import name_of
from selectllm.schemas import CONVERSATIONS
from selectllm.steps.ask_rows import ask_about_rows
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.model import is_acceptable
from selectllm.store import digest

CODE_VERSION: Final = 1
"""Raise it when the same replies are to give another table, or its facts get other names."""


def converse(context: Context, model: ModelInfo, dialogues: Sequence[Dialogue], max_tokens: int) -> StepResult:
    """Have a model answer all first turns, then all second ones where the first has an answer; CONVERSATIONS.

    At temperature 0. Raises ModelError, CostExceeded, Stopped, TooManyAbstained.
    """
    entry = conversations_entry(context, model, dialogues, max_tokens)
    if result := entry.load():
        return result
    stats, rows = RankingStats(), list[dict[str, Any]]()
    before: dict[str, tuple[Turn, ...]] = {one.id: () for one in dialogues}
    for turn in (1, 2):
        open_ones = [one for one in dialogues if one.id in before and len(one.turns) >= turn]
        asked = [turn_question(one, turn, max_tokens, model).after(before[one.id]) for one in open_ones]
        asking = ask_about_rows(context, model, "answers", asked, longest_of(asked), stats.usage) if asked else Asking()
        stats += asking.stats
        stats.errors_by_kind += asking.without_reply
        for one, question in zip(open_ones, asked, strict=True):
            answer = asking.answers.get(question.name)
            text, is_cut = answer.value if answer else (None, None)
            reply = answer.reply if answer else None
            rows.append({"question_id": one.id, "turn": turn, "answer": text, "is_cut": is_cut, "reply": reply})
            if text is None:
                del before[one.id]
            else:
                before[one.id] += (("user", one.turns[turn - 1]), ("assistant", text))
    saved = entry.save(pa.Table.from_pylist(rows, schema=CONVERSATIONS), stats.facts(), **stats.paid())
    if stats.abstained:
        note_end(context.store, model)
    return saved


def conversations_entry(
    context: Context, model: ModelInfo, dialogues: Sequence[Dialogue], max_tokens: int
) -> CacheEntry:
    """Where a model's conversations are kept."""
    decisive = {"model": model.digest, "name": model.name, "think": name_of(model.think), "max_tokens": max_tokens}
    decisive |= {"prompts": answer_question.CODE_VERSION}
    inputs = {"questions": digest("dialogues", [[one.id, list(one.turns)] for one in dialogues])}
    acceptable = partial(is_acceptable, context.settings, None)
    return CacheEntry(context.store, "conversations", CODE_VERSION, inputs, decisive, acceptable)


def turns_of(conversations: pa.Table) -> dict[str, Turns]:
    """The answers of CONVERSATIONS by question."""
    found: dict[str, Turns] = {}
    for row in conversations.to_pylist():
        found[row["question_id"]] = (*found.get(row["question_id"], ()), row["answer"])
    return found


def turn_question(one: Dialogue, turn: int, max_tokens: int, model: ModelInfo) -> AnswerQuestion:
    """The question of one turn, without what was said before it."""
    return AnswerQuestion(Question(one.id, one.id, one.turns[turn - 1], None, None), 0, max_tokens, model.think)
