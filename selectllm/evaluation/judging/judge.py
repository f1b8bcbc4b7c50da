"""Has a model judge pairs of answers: each in an order drawn by the seed, or in both orders."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.evaluation.judging import questions
from selectllm.evaluation.judging.manner import choose_manner
from selectllm.evaluation.judging.pairs import Pair
from selectllm.evaluation.judging.questions import Manner, PairQuestion
from selectllm.evaluation.judging.settings import Preference
from selectllm.llm.caller import LongestRequest
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import ModelInfo, Think
from selectllm.llm.usage import Usage
from selectllm.ranking.row_questions import Asking
from selectllm.ranking.thinking import name_of
from selectllm.schemas import JUDGEMENTS
from selectllm.steps.ask_rows import ask_about_rows
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.model import is_acceptable
from selectllm.store import digest

Numbers = npt.NDArray[np.float64]

CODE_VERSION: Final = 1
"""Raise it when the same replies are to give other judgements, or their facts get other names."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What a judge said of M pairs, and what that took.

    `preferences` (M,) are for the model's answer, from 0 to 1, and `first_shown` (M,) for the answer that was shown
    first, both means over the orders asked; NaN where the judge gave no usable answer in one of them. Equal answers are
    a draw, and have no `first_shown`.
    """

    model: ModelInfo
    manner: Manner
    result: StepResult
    preferences: Numbers
    first_shown: Numbers
    paid: Usage  # by this run, for the trials too that decide how the judge is asked
    cost: float | None  # by the prices given

    def record(self) -> dict[str, Any]:
        """What was asked and what failed, in plain values."""
        facts = self.result.facts
        return {
            "selector": self.model.selector,
            "model": self.model.name,
            "manner": self.manner,
            "seed": self.result.manifest.settings["seed"],
            "both_orders": self.result.manifest.settings["both_orders"],
            "pairs": len(self.preferences),
            "equal": facts["equal"],
            "unjudged": int(np.isnan(self.preferences).sum()),
            "questions": facts["ranked"] + facts["abstained"],
            "failed": facts["abstained"],
            "errors_by_kind": facts["errors_by_kind"],
            "asked": self.paid.asked,
            "paid_prompt_tokens": self.paid.paid_prompt_tokens,
            "paid_output_tokens": self.paid.paid_output_tokens,
            "cost": self.cost,
            "judgements": self.result.artifact.key,
        }


def judge(context: Context, pairs: Sequence[Pair], preference: Preference = "auto", *, both_orders: bool) -> Judged:
    """Have the selector that the settings name judge pairs; what was judged before in this store is not asked again.

    Raises UsageError, SelectorUnavailable, ModelError, CostExceeded, Stopped, and TooManyAbstained when more questions
    than `max_abstained` allows have no usable answer. All replies are kept.
    """
    asking, model, manner = choose_manner(context, preference)
    result = asking.run(judge_pairs, model, manner, pairs, both_orders)
    paid = context.log.paid()
    cost = context.settings.ranking.cost(paid.paid_prompt_tokens, paid.paid_output_tokens)
    return Judged(model, manner, result, *_by_pair(result.table(context.store), pairs), paid, cost)


def judge_pairs(
    context: Context, model: ModelInfo, manner: Manner, pairs: Sequence[Pair], both_orders: bool
) -> StepResult:
    """Put each pair to a model, in one order or in both; JUDGEMENTS."""
    entry = judgements_entry(context, model, manner, pairs, both_orders)
    if result := entry.load():
        return result
    put = put_to(context, model, manner, pairs, both_orders)
    found = ask_about_rows(context, model, "judgements", put, longest_question(put)) if put else Asking()
    found.stats.errors_by_kind += found.without_reply
    rows = [_row(question, found) for question in put] + [_draw(pair) for pair in pairs if pair.is_equal]
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["number"]), schema=JUDGEMENTS)
    facts = found.stats.facts() | {"pairs": len(pairs), "equal": sum(pair.is_equal for pair in pairs)}
    saved = entry.save(table, facts, **found.stats.paid())
    if found.stats.abstained:
        note_end(context.store, model)
    return saved


def judgements_entry(
    context: Context, model: ModelInfo, manner: Manner, pairs: Sequence[Pair], both_orders: bool
) -> CacheEntry:
    """Where the judgements of a model are kept."""
    settings = context.settings
    asked = {"model": model.digest, "name": model.name, "manner": manner, "think": name_of(model.think)}
    decisive = asked | {"prompts": questions.CODE_VERSION, "seed": settings.seed, "both_orders": both_orders}
    inputs = {"pairs": digest([pair.id for pair in pairs])}
    acceptable = partial(is_acceptable, settings, None)
    return CacheEntry(context.store, "judgements", CODE_VERSION, inputs, decisive, acceptable)


def put_to(
    context: Context, model: ModelInfo, manner: Manner, pairs: Sequence[Pair], both_orders: bool
) -> list[PairQuestion]:
    """All that a model is asked about pairs: in both orders, or in the one that the seed draws."""
    think: Think = model.think if manner == "choice" else False
    return [
        PairQuestion(pair, first, manner, think)
        for pair in pairs
        if not pair.is_equal
        for first in ((True, False) if both_orders else (pair.model_first(context.settings.seed),))
    ]


def longest_question(asked: Sequence[PairQuestion]) -> LongestRequest:
    """The longest of the questions; an answer has twice its room, as elsewhere."""
    size = max(len(question.request(9999, " " * 60).text.encode()) for question in asked)
    return LongestRequest(size, 2 * asked[0].request().max_tokens)


def _row(question: PairQuestion, found: Asking) -> dict[str, Any]:
    answer, pair = found.answers.get(question.name), question.pair
    said = {"preference": answer and answer.value, "reply": answer and answer.reply}
    return {"number": pair.number, "id": pair.id, "model_first": question.model_first} | said


def _draw(pair: Pair) -> dict[str, Any]:
    return {"number": pair.number, "id": pair.id, "model_first": None, "preference": 0.5, "reply": None}


def _by_pair(table: pa.Table, pairs: Sequence[Pair]) -> tuple[Numbers, Numbers]:
    """The preferences for the model's answer and for the one shown first, by pair."""
    said: dict[int, list[tuple[bool | None, float]]] = {}
    names = ("number", "model_first", "preference")
    for number, first, preference in zip(*(table[name].to_pylist() for name in names), strict=True):
        said.setdefault(number, []).append((first, np.nan if preference is None else preference))
    preferences, shown = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    for place, pair in enumerate(pairs):
        orders = said[pair.number]
        preferences[place] = np.mean([value for _, value in orders])
        if not pair.is_equal:
            shown[place] = np.mean([value if first else 1 - value for first, value in orders])
    return preferences, shown
