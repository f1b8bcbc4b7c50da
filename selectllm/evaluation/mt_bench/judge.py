"""The step that gives the artifact `judgments`: what a judge says of all answers that there are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.evaluation.mt_bench.judge_question import JudgeQuestion
from selectllm.evaluation.mt_bench.prompts import Case, Kind, file_prompt, own_prompt
from selectllm.evaluation.mt_bench.questions import REFERENCED, Dialogue, Turns
from selectllm.llm.caller import LongestRequest
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import ModelInfo
from selectllm.ranking.thinking import name_of
from selectllm.schemas import MT_BENCH_JUDGMENTS
from selectllm.steps.ask_rows import ask_about_rows
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.model import is_acceptable
from selectllm.store import digest

CODE_VERSION: Final = 1
"""Raise it when the same replies are to give another table, or its facts get other names."""


@dataclass(frozen=True)
class Bench:
    """All that is judged: questions, each model's answers, references, and prompts of a file if there are any."""

    dialogues: Sequence[Dialogue]
    answers: Mapping[str, Mapping[str, Turns]]
    references: Mapping[str, Turns]
    prompts: Mapping[str, Mapping[str, Any]] | None


def judge_turns(context: Context, model: ModelInfo, bench: Bench, kind: Kind) -> StepResult:
    """Have a judge rate all answers, or compare each model's with the first model's, in both orders.

    A judgment that cannot be used is null. Raises UsageError where there is nothing to judge or a reference is missing,
    ModelError, CostExceeded, Stopped, and TooManyAbstained when more than `--max-abstained` allows cannot be used.
    """
    asked = list(questions_of(bench, kind, model))
    if not asked:
        raise UsageError("there is nothing to judge: no question has an answer of every model that it is judged by")
    entry = judgments_entry(context, model, asked, kind)
    if result := entry.load():
        return result
    requests = [one.request(2, " " * 60) for one in asked]
    longest = LongestRequest(
        max(len(request.whole_text.encode()) for request in requests), max(request.max_tokens for request in requests)
    )
    asking = ask_about_rows(context, model, "judgments", asked, longest)
    asking.stats.errors_by_kind += asking.without_reply
    rows = []
    for one in asked:
        answer = asking.answers.get(one.name)
        score, text = answer.value if answer else (None, None)
        models = {"model": one.models[0], "other": one.models[1] if len(one.models) > 1 else None}
        about = {"question_id": one.id, "turn": one.turn, **models, "prompt": one.prompt.name}
        rows.append(about | {"score": score, "judgment": text, "reply": answer.reply if answer else None})
    stats = asking.stats
    saved = entry.save(pa.Table.from_pylist(rows, schema=MT_BENCH_JUDGMENTS), stats.facts(), **stats.paid())
    if stats.abstained:
        note_end(context.store, model)
    return saved


def judgments_entry(context: Context, model: ModelInfo, asked: Sequence[JudgeQuestion], kind: Kind) -> CacheEntry:
    """Where the judgments that are asked for are kept."""
    decisive = {"model": model.digest, "name": model.name, "think": name_of(model.think), "kind": kind}
    texts = [[one.name, one.prompt.name, one.request().text_digest] for one in asked]
    inputs = {"requests": digest("judgments", texts)}
    acceptable = partial(is_acceptable, context.settings, None)
    return CacheEntry(context.store, "mt_bench_judgments", CODE_VERSION, inputs, decisive, acceptable)


def questions_of(bench: Bench, kind: Kind, model: ModelInfo) -> Iterator[JudgeQuestion]:
    """Every judgment that can be asked for: where an answer is missing, none is.

    Raises UsageError where a question of math, reasoning or coding has no reference.
    """
    for names in pairs_of(bench, kind):
        for one in bench.dialogues:
            for turn in range(1, len(one.turns) + 1):
                answers = [answered(bench.answers[name].get(one.id, ()), turn) for name in names]
                texts = tuple(text for text in answers if text is not None)
                if len(texts) < len(names):
                    continue
                case = Case(one.turns[:turn], texts, _reference(bench, one, turn))
                prompt = own_prompt(kind, case) if bench.prompts is None else file_prompt(bench.prompts, kind, case)
                yield JudgeQuestion(one.id, turn, names, kind, prompt, model.think)


def pairs_of(bench: Bench, kind: Kind) -> list[tuple[str, ...]]:
    """What is judged at once: each model; or the first and each other one, in both orders."""
    first, *others = bench.answers
    if kind == "single":
        return [(name,) for name in bench.answers]
    return [pair for other in others for pair in ((other, first), (first, other))]


def answered(turns: Turns, turn: int) -> tuple[str, ...] | None:
    """The answers up to a turn; None where one of them is missing."""
    texts = tuple(text for text in turns[:turn] if text is not None)
    return texts if len(texts) == turn else None


def _reference(bench: Bench, one: Dialogue, turn: int) -> tuple[str, ...] | None:
    if one.category not in REFERENCED:
        return None
    found = answered(bench.references.get(one.id, ()), turn)
    if found is None:
        raise UsageError(
            f"question {one.id} is of {one.category}, and has no reference for turn {turn}: name a file that has one "
            "with --references"
        )
    return found
