"""After the choice, where reasons are asked for: the model says of each chosen row why it is worth it."""

import logging
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from selectllm.errors import CostExceeded, ModelChanged, ModelError, UsageError
from selectllm.execution import run_coroutine
from selectllm.llm.caller import LongestRequest
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import ModelInfo
from selectllm.llm.usage import Usage
from selectllm.ranking import reasons
from selectllm.ranking.lists import GIVEN_UP
from selectllm.ranking.reasons import ReasonQuestion
from selectllm.ranking.row_questions import Asking
from selectllm.ranking.thinking import name_of
from selectllm.schemas import REASONS
from selectllm.steps.ask_rows import ask_rows
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.model import Job, longest_request, shown_candidates
from selectllm.store import Manifest

CODE_VERSION: Final = 1
"""Raise it when the same replies are to give other reasons, or their facts get other names."""

STOPS: Final = {
    CostExceeded: "the run has cost as much as it may",
    ModelChanged: "the model's name stands for other weights by now",
    ModelError: "the model could not be asked any more",
    UsageError: "the model could not be had any more",
}
"""The errors that end the asking, and not the run, in words that the facts keep."""

log = logging.getLogger(__name__)


def give_reasons(context: Context) -> StepResult:
    """Ask the model once about each chosen row, by the criteria that it was chosen by; REASONS, in the choice's order.

    The selection stands whatever happens: a row without a usable answer has no reason, and an error of the model, or
    the cost limit, ends the asking with a warning. The next run then asks what has no reply.
    Raises Stopped when the run is cancelled, StoreError when replies or reasons cannot be kept.
    """
    store, settings, model = context.store, context.settings, context.log.model
    selection, judged = context.log.result("selection"), context.log.result("rankings")
    judged = judged or context.log.result("row_ratings")
    assert model is not None  # as for a slot that was filled before, these are noted by now
    assert selection is not None
    criteria = judged.manifest.settings.get("criteria") if judged else context.criteria
    decisive: dict[str, Any] = {"model": model.digest, "name": model.name, "think": name_of(model.think)}
    decisive |= {"candidate_chars": settings.ranking.candidate_chars, "seed": settings.seed}
    decisive |= {"prompts": reasons.CODE_VERSION} | ({} if criteria is None else {"criteria": criteria})
    entry = CacheEntry(store, "reasons", CODE_VERSION, {"selection": selection}, decisive, _is_complete)
    if result := entry.load():
        return result
    candidates = shown_candidates(selection.table(store), settings)
    questions = [ReasonQuestion(candidate, settings.seed, model.think, criteria) for candidate in candidates.values()]
    asking, stopped, ledger = Asking(), "", Ledger(store, model)
    if unanswered := [question for question in questions if ledger.get(question.request().key(model)) is None]:
        stopped = _ask(context, model, unanswered, criteria, asking)
        ledger = Ledger(store, model)  # as it is now: replies came, or were retracted, while an error ended the asking
    table, facts = _read(ledger, model, questions, asking)
    return entry.save(table, facts | {"stopped": stopped}, **asking.stats.paid())


def _is_complete(manifest: Manifest) -> bool:
    """Whether all rows were asked about: made again, kept replies cost nothing."""
    return not manifest.facts["stopped"] and GIVEN_UP not in manifest.facts["errors_by_kind"]


def _ask(
    context: Context, model: ModelInfo, questions: Sequence[ReasonQuestion], criteria: str | None, asking: Asking
) -> str:
    """Put all questions, as far as that goes; the replies are in the ledger then. Returns what ended it."""
    longest, keys = _longest(context, model, questions, criteria), context.load_keys()
    job = Job("reasons", model, len(questions), longest, len(questions), len(questions), context.paid_before())
    try:
        run_coroutine(ask_rows(context, keys, job, questions, asking))
    except tuple(STOPS) as error:
        log.warning("the rows are chosen, and some have no reason: %s. Run again to go on with the rest", error)
        return next(words for kind, words in STOPS.items() if isinstance(error, kind))
    return ""


def _longest(
    context: Context, model: ModelInfo, questions: Sequence[ReasonQuestion], criteria: str | None
) -> LongestRequest:
    """The longest request of the whole run: a server that loads a model for a context would load it anew for less."""
    pool = context.log.result("pool")
    assert pool is not None
    candidates = shown_candidates(pool.table(context.store), context.settings)
    longest = candidates.longest(context.settings.queries.size)
    ranking = longest_request(longest, context.settings, model.mode, model.think, criteria)
    requests = [question.request() for question in questions]
    return LongestRequest(
        max(ranking.prompt_bytes, *(len(request.text.encode()) for request in requests)),
        max(ranking.max_tokens, *(request.max_tokens for request in requests)),
    )


def _read(
    ledger: Ledger, model: ModelInfo, questions: Sequence[ReasonQuestion], asking: Asking
) -> tuple[pa.Table, dict[str, Any]]:
    """REASONS and their facts, by the replies that count in the end."""
    rows, tokens = list[dict[str, Any]](), Usage()
    errors = asking.stats.usage.errors_by_kind + asking.without_reply
    for question in questions:
        entry, reason = ledger.get(question.request().key(model)), None
        if entry:
            reading = question.read(entry.reply)
            reason = reading.value
            errors.update([reading.kind] if reason is None else ())
            tokens.replies += 1
            tokens.prompt_tokens += entry.reply.prompt_tokens
            tokens.output_tokens += entry.reply.output_tokens
        rows.append({"id": question.id, "reason": reason, "reply": entry and entry.key})
    given = sum(row["reason"] is not None for row in rows)
    facts = {name: getattr(tokens, name) for name in ("replies", "prompt_tokens", "output_tokens")}
    facts |= {"given": given, "missing": len(rows) - given}
    return pa.Table.from_pylist(rows, schema=REASONS), facts | {"errors_by_kind": dict(sorted(errors.items()))}
