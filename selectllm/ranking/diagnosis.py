"""Checks whether a selector can do what a run will ask of it, before it is paid for, and says what to do where not."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from selectllm.errors import ModelError, SelectLLMError, TransientError
from selectllm.llm import open_model
from selectllm.llm.hosts import HostPool
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Reply, Request
from selectllm.llm.speed import Speed, time_warning
from selectllm.ranking.answers import log_odds, read
from selectllm.ranking.prompts import Candidate, listwise, max_answer_tokens, pointwise
from selectllm.settings import RankingSettings, RunSettings

CONCURRENCY: Final = 4  # questions sent together, to see how many are answered at a time
NEW_LINES: Final = 16  # that a speed is measured with: some hundred tokens
PATIENCE: Final = 60.0  # seconds that a server may refuse all questions
QUERY_SIZE: Final = 14  # candidates of the largest query that the context is measured against

TEXTS: Final = {
    "clear": "Plan a week of packed lunches for a child who cannot eat nuts, with a shopping list by shop aisle.",
    "vague": "Write something.",
    "short": "What is 2 + 2?",
    "rich": "Explain to a new nurse how to read a blood gas result, step by step, with one worked example.",
}
CANDIDATES: Final = tuple(Candidate(id, text) for id, text in TEXTS.items())


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: whether it is well, what was seen, and what to do where it is not."""

    name: str
    ok: bool
    seen: str
    advice: str = ""


async def diagnose(settings: RunSettings, keys: ApiKeys) -> AsyncIterator[Finding]:
    """Check each host in turn, and yield each finding as soon as it is there; a host that fails is left at once."""
    hosts = settings.ranking.hosts
    for host in hosts or (None,):
        prefix = f"{host} " if len(hosts) > 1 else ""
        changes = {
            "hosts": (host,) if host else (),
            "concurrency": CONCURRENCY,
            "retries": 0,
            "give_up_after": PATIENCE,
        }
        try:
            pool = await open_model(settings.selector, settings.ranking.model_copy(update=changes), keys)
        except SelectLLMError as error:
            yield Finding(f"{prefix}server", False, str(error))
            continue
        try:
            async for finding in _diagnose_host(pool, settings.ranking):
                yield replace(finding, name=prefix + finding.name)
        finally:
            await pool.close()


async def _diagnose_host(hosts: HostPool, settings: RankingSettings) -> AsyncIterator[Finding]:
    info = hosts.info
    yield Finding("server", True, f"answers, version {info.server_version}")
    yield Finding("model", True, f"{info.name}, digest {info.digest[:12]}")
    max_tokens = 2 * max_answer_tokens(QUERY_SIZE, settings.think != "off")
    try:
        await hosts.prepare(QUERY_SIZE * settings.candidate_chars, max_tokens, wait=False)
        seconds, reply = await _timed(hosts, [_query(0)])
    except ModelError as error:
        advice = "check the name of the model and the key; the server's log says more"
        if isinstance(error, TransientError):
            advice = "look at the server's log and its memory (`ollama ps`), restart it, and try again"
            if error.kind == "timeout":
                advice = "raise --timeout, or choose a smaller model: loading one from a slow disk takes minutes"
        yield Finding("query", False, str(error), advice)
        return
    yield _context(hosts, settings)
    yield _structured(reply)
    yield await _speed(hosts, settings)
    yield await _logprobs(hosts)
    yield await _parallel(hosts, seconds)


def _context(hosts: HostPool, settings: RankingSettings) -> Finding:
    if hosts.context is None:
        seen = "the server names none: prompts that do not fit are its errors, and are then halved"
        return Finding("context", True, seen)
    needed = QUERY_SIZE * settings.candidate_chars // 4
    advice = "longer queries will be halved: lower --query-size or --candidate-chars, or choose a model that reads more"
    seen = f"{hosts.context:,} tokens; {QUERY_SIZE} of the longest candidates take about {needed:,}"
    return Finding("context", hosts.context >= needed, seen, advice)


def _structured(reply: Reply) -> Finding:
    answer = read(reply.text, 2, len(CANDIDATES))
    if answer.fault is None and not answer.repaired:
        seen = f"a query of {len(CANDIDATES)} was ranked as asked, {reply.prompt_tokens} tokens read"
        return Finding("query", True, seen)
    seen = "an answer had to be repaired" if answer.fault is None else f"an answer could not be used: {answer.fault}"
    advice = "the server may not hold answers to a schema; runs cope, but ask more. A small model: try --mode pointwise"
    return Finding("query", answer.fault is None, seen, advice)


async def _speed(hosts: HostPool, settings: RankingSettings) -> Finding:
    """How long the longest query takes, by a text that no server has in its cache."""
    request = listwise(CANDIDATES, 2, 0).request()
    request = replace(request, text="\n".join(uuid4().hex for _ in range(NEW_LINES)) + "\n\n" + request.text)
    try:
        seconds, reply = await _timed(hosts, [request])
    except ModelError as error:
        return Finding(
            "speed", False, str(error), "the server fails with longer prompts: look at its log and its memory"
        )
    if not reply.prompt_duration:  # the server does not count its time
        reply = replace(reply, prompt_duration=round(1e9 * seconds))
    speed = Speed.of([reply])
    if speed is None:
        return Finding("speed", True, "not known: the server counts no tokens")
    tokens = QUERY_SIZE * settings.candidate_chars // 4
    longest = speed.seconds(tokens, max_answer_tokens(settings.depth, settings.think != "off"))
    seen = f"{speed.read:,.0f} tokens read a second: {QUERY_SIZE} of the longest candidates, about {tokens:,} tokens, "
    advice = time_warning(longest, settings)
    return Finding("speed", not advice, f"{seen}take about {longest:,.0f} s", advice)


async def _logprobs(hosts: HostPool) -> Finding:
    """Only --mode pointwise needs them: without them a selector is as good in listwise mode."""
    try:
        odds = log_odds(await _answer(hosts, pointwise(CANDIDATES[0]).request()))
        seen = "yes and no are not among the likeliest tokens"
    except ModelError as error:
        odds, seen = None, str(error)
    if odds is not None:
        return Finding("log-probabilities", True, f"available, log-odds {odds:+.2f} for a rich row")
    if hosts.info.mode == "pointwise":
        advice = "use --mode listwise, which does not need them; Ollama has them since 0.12"
        return Finding("log-probabilities", False, seen, advice)
    return Finding("log-probabilities", True, f"not available, and not needed in listwise mode: {seen}")


async def _parallel(hosts: HostPool, first_seconds: float) -> Finding:
    """`first_seconds` is how long the first question took, which may have loaded the model."""
    try:
        single = min(first_seconds, (await _timed(hosts, [_query(1)]))[0])
        together, _ = await _timed(hosts, map(_query, range(2, 2 + CONCURRENCY)))
    except ModelError as error:
        return Finding("parallelism", False, str(error), "the server fails under load: lower --concurrency")
    rate = CONCURRENCY * single / together
    seen = f"{single:.2f} s for one question, {together:.2f} s for {CONCURRENCY} at once: about {rate:.1f} at a time"
    return Finding("parallelism", True, seen)


def _query(seed: int) -> Request:
    return listwise(CANDIDATES, 2, seed).request()


async def _timed(hosts: HostPool, requests: Iterable[Request]) -> tuple[float, Reply]:
    """Seconds until requests that are sent together are answered, and the first reply."""
    started = time.perf_counter()
    replies = await asyncio.gather(*(_answer(hosts, request) for request in requests))
    return time.perf_counter() - started, replies[0]


async def _answer(hosts: HostPool, request: Request) -> Reply:
    async with hosts.answer(request) as reply:
        return reply
