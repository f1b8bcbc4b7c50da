"""After the choice, where reasons are asked for: the model says of each chosen row why it is worth it."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from selectllm.errors import (
    ContentRefused,
    ContextLengthExceeded,
    CostExceeded,
    ModelChanged,
    ModelError,
    TransientError,
    UsageError,
)
from selectllm.execution import note_spent, run_coroutine
from selectllm.llm.caller import LongestRequest, open_caller
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import ModelInfo, Request
from selectllm.llm.usage import Usage
from selectllm.ranking import reasons
from selectllm.ranking.lists import GIVEN_UP, error_kind, gather_or_raise
from selectllm.ranking.reasons import read_reason, reason_request
from selectllm.ranking.stats import PAID
from selectllm.ranking.thinking import name_of
from selectllm.schemas import REASONS
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.model import cost_limit, longest_request, shown_candidates
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


@dataclass
class _Asking:
    """What the asking took so far, also where an error ends it."""

    usage: Usage = field(default_factory=Usage)
    errors_by_kind: Counter[str] = field(default_factory=Counter)
    stopped: str = ""


def give_reasons(context: Context) -> StepResult:
    """Ask the model once about each chosen row, by the criteria that it was chosen by; REASONS, in the choice's order.

    The selection stands whatever happens: a row without a usable answer has no reason, and an error of the model, or
    the cost limit, ends the asking with a warning. The next run then asks what has no reply.
    Raises Stopped when the run is cancelled, StoreError when replies or reasons cannot be kept.
    """
    store, settings, model = context.store, context.settings, context.log.model
    selection, rankings = context.log.result("selection"), context.log.result("rankings")
    assert model is not None  # as for a slot that was filled before, these are noted by now
    assert selection is not None
    criteria = rankings.manifest.settings.get("criteria") if rankings else context.criteria
    decisive: dict[str, Any] = {"model": model.digest, "name": model.name, "think": name_of(model.think)}
    decisive |= {"candidate_chars": settings.ranking.candidate_chars, "seed": settings.seed}
    decisive |= {"prompts": reasons.CODE_VERSION} | ({} if criteria is None else {"criteria": criteria})
    entry = CacheEntry(store, "reasons", CODE_VERSION, {"selection": selection}, decisive, _is_complete)
    if result := entry.load():
        return result
    candidates, _ = shown_candidates(selection.table(store), settings)
    requests = [reason_request(candidate, settings.seed, model.think, criteria) for candidate in candidates.values()]
    asking, ledger = _Asking(), Ledger(store, model)
    if unanswered := [request for request in requests if ledger.get(request.key(model)) is None]:
        asking = _asked(context, model, unanswered, _longest(context, model, unanswered, criteria))
        ledger = Ledger(store, model)  # as it is now: replies came, or were retracted, while an error ended the asking
    table, facts = _read(ledger, model, requests, asking)
    return entry.save(table, facts, **{name: getattr(asking.usage, name) for name in PAID})


def _is_complete(manifest: Manifest) -> bool:
    """Whether all rows were asked about: made again, kept replies cost nothing."""
    return not manifest.facts["stopped"] and GIVEN_UP not in manifest.facts["errors_by_kind"]


def _longest(context: Context, model: ModelInfo, requests: Sequence[Request], criteria: str | None) -> LongestRequest:
    """The longest request of the whole run: a server that loads a model for a context would load it anew for less."""
    pool = context.log.result("pool")
    assert pool is not None
    candidates, _ = shown_candidates(pool.table(context.store), context.settings)
    ranking = longest_request(candidates.values(), context.settings, model.mode, model.think, criteria)
    return LongestRequest(
        max(ranking.prompt_bytes, *(len(request.text.encode()) for request in requests)),
        max(ranking.max_tokens, *(request.max_tokens for request in requests)),
    )


def _asked(context: Context, model: ModelInfo, requests: Sequence[Request], longest: LongestRequest) -> _Asking:
    """Ask all questions, as far as that goes; the replies are in the ledger then."""
    asking, keys = _Asking(), context.load_keys()
    try:
        run_coroutine(_ask(context, keys, model, longest, requests, asking))
    except tuple(STOPS) as error:
        asking.stopped = next(words for kind, words in STOPS.items() if isinstance(error, kind))
        log.warning("the rows are chosen, and some have no reason: %s. Run again to go on with the rest", error)
    return asking


async def _ask(
    context: Context,
    keys: ApiKeys,
    model: ModelInfo,
    longest: LongestRequest,
    requests: Sequence[Request],
    asking: _Asking,
) -> None:
    settings, steps = context.settings, context.log.results
    paid_before = sum(step.paid_prompt_tokens for step in steps), sum(step.paid_output_tokens for step in steps)
    limit = cost_limit(settings, paid_before)
    async with open_caller(context.store, settings, model, longest, limit, keys) as caller:
        asking.usage = caller.usage
        pending, done = iter(requests), 0
        context.progress("reasons", 0, len(requests))

        async def work() -> None:
            nonlocal done
            for request in pending:
                try:
                    await caller.ask(request)
                except (TransientError, ContextLengthExceeded, ContentRefused) as error:  # of this question alone
                    asking.errors_by_kind[error_kind(error)] += 1
                done += 1
                context.progress("reasons", done, len(requests))
                usage = caller.usage
                note_spent(context.progress, paid_before, usage.paid_prompt_tokens, usage.paid_output_tokens)

        await gather_or_raise(work() for _ in range(min(2 * caller.places, len(requests))))


def _read(
    ledger: Ledger, model: ModelInfo, requests: Sequence[Request], asking: _Asking
) -> tuple[pa.Table, dict[str, Any]]:
    """REASONS and their facts, by the replies that count in the end."""
    rows, tokens = list[dict[str, Any]](), Usage()
    errors = asking.usage.errors_by_kind + asking.errors_by_kind
    for request in requests:
        entry, reason = ledger.get(request.key(model)), None
        if entry:
            reason, kind = read_reason(entry.reply)
            errors.update([kind] if reason is None else ())
            tokens.replies += 1
            tokens.prompt_tokens += entry.reply.prompt_tokens
            tokens.output_tokens += entry.reply.output_tokens
        rows.append({"id": request.shown[0], "reason": reason, "reply": entry and entry.key})
    given = sum(row["reason"] is not None for row in rows)
    facts = {name: getattr(tokens, name) for name in ("replies", "prompt_tokens", "output_tokens")}
    facts |= {"given": given, "missing": len(rows) - given, "stopped": asking.stopped}
    return pa.Table.from_pylist(rows, schema=REASONS), facts | {"errors_by_kind": dict(sorted(errors.items()))}
