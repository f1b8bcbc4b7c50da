"""Looks whether a selector can do what a run will ask of it, before it is paid for, and says what to do where not."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from selectllm.errors import ModelError, SelectLLMError, TransientError
from selectllm.llm import HostPool, Reply, Request, open_model
from selectllm.llm.model import most_tokens
from selectllm.ranking import answers
from selectllm.ranking.prompts import Candidate, listwise, pointwise
from selectllm.ranking.ranker import log_odds
from selectllm.settings import RankingSettings

AT_ONCE: Final = 4
"""Questions sent together, to see how many are answered at a time."""

CANDIDATES: Final = (
    Candidate(
        "clear", "Plan a week of packed lunches for a child who cannot eat nuts, with a shopping list by shop aisle."
    ),
    Candidate("vague", "Write something."),
    Candidate("short", "What is 2 + 2?"),
    Candidate("rich", "Explain to a new nurse how to read a blood gas result, step by step, with one worked example."),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it is well, what was seen, and what to do where it is not."""

    name: str
    ok: bool
    seen: str
    advice: str = ""


async def examine(selector: str, settings: RankingSettings) -> AsyncIterator[Finding]:
    """Look at each host in turn; yields a finding as soon as there is one, and stops at a host that cannot be asked."""
    for host in settings.hosts or ("",):
        prefix = f"{host} " if len(settings.hosts) > 1 else ""
        one = settings.model_copy(update={"hosts": (host,) if host else (), "concurrency": AT_ONCE, "retries": 0})
        try:
            hosts = await open_model(selector, one)
        except SelectLLMError as error:
            yield Finding(f"{prefix}server", False, str(error))
            continue
        try:
            async for finding in _examine(hosts, settings):
                yield Finding(prefix + finding.name, finding.ok, finding.seen, finding.advice)
        finally:
            await hosts.close()


async def _examine(hosts: HostPool, settings: RankingSettings) -> AsyncIterator[Finding]:
    card = hosts.card
    yield Finding("server", True, f"answers, version {card.server_version}")
    yield Finding("model", True, f"{card.name}, digest {card.digest[:12]}")
    try:
        await hosts.prepare(14 * settings.candidate_chars, 2 * most_tokens(14, settings.think != "off"), wait=False)
        loaded, reply = await _timed(hosts, _list(0))
    except ModelError as error:
        yield Finding("query", False, str(error), _advice(error))
        return
    yield _context(hosts, settings)
    yield _structured(reply)
    yield await _logprobs(hosts)
    yield await _parallel(hosts, loaded)


def _advice(error: ModelError) -> str:
    """What to do about a server that does not answer a question."""
    if not isinstance(error, TransientError):
        return "look whether the name of the model and the key are right; the server's log says more"
    if error.kind == "timeout":
        return "raise --timeout, or choose a smaller model: loading one from a slow disk takes minutes"
    return "look at the server's log and its memory (`ollama ps`), start it anew, and look again"


def _context(hosts: HostPool, settings: RankingSettings) -> Finding:
    if hosts.context is None:
        return Finding(
            "context", True, "the server tells none: prompts that do not fit are its errors, and are then halved"
        )
    wanted = 14 * settings.candidate_chars // 4
    advice = "longer queries will be halved: lower --query-size or --candidate-chars, or choose a model that reads more"
    ok = hosts.context >= wanted
    return Finding(
        "context", ok, f"{hosts.context:,} tokens; 14 of the longest candidates take about {wanted:,}", advice
    )


def _structured(reply: Reply) -> Finding:
    answer = answers.read(reply.text, 2, len(CANDIDATES))
    if answer.fault is None and not answer.repaired:
        return Finding(
            "query", True, f"a query of {len(CANDIDATES)} was ranked as asked, {reply.prompt_tokens} tokens read"
        )
    seen = "an answer had to be repaired" if answer.fault is None else f"an answer could not be used: {answer.fault}"
    advice = "the server may not hold answers to a schema; runs cope, but ask more. A small model: try --mode pointwise"
    return Finding("query", answer.fault is None, seen, advice)


async def _logprobs(hosts: HostPool) -> Finding:
    """Only --mode pointwise needs them: without them a selector is as well as with them in listwise mode."""
    advice = "use --mode listwise, which does not need them; Ollama has them since 0.12"
    is_needed = hosts.card.mode == "pointwise"
    try:
        odds = log_odds(await hosts.answer(Request(pointwise(CANDIDATES[0]))))
        seen = "yes and no are not among the likeliest tokens"
    except ModelError as error:
        odds, seen = None, str(error)
    if odds is not None:
        return Finding("log-probabilities", True, f"there, log-odds {odds:+.2f} for a rich row")
    if is_needed:
        return Finding("log-probabilities", False, seen, advice)
    return Finding("log-probabilities", True, f"not there, and not needed in listwise mode: {seen}")


async def _parallel(hosts: HostPool, loaded: float) -> Finding:
    try:
        single = min(loaded, (await _timed(hosts, _list(1)))[0])
        together = (await _timed(hosts, *(_list(seed) for seed in range(2, 2 + AT_ONCE))))[0]
    except ModelError as error:
        return Finding("parallelism", False, str(error), "the server fails under load: lower --concurrency")
    at_once = AT_ONCE * single / together
    seen = f"{single:.2f} s for one question, {together:.2f} s for {AT_ONCE} at once: about {at_once:.1f} at a time"
    return Finding("parallelism", True, seen)


def _list(seed: int) -> Request:
    return Request(listwise(CANDIDATES, 2, seed))


async def _timed(hosts: HostPool, *requests: Request) -> tuple[float, Reply]:
    started = time.perf_counter()
    replies = await asyncio.gather(*(hosts.answer(request) for request in requests))
    return time.perf_counter() - started, replies[0]
