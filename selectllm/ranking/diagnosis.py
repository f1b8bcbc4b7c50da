"""Checks whether a selector can do what a run will ask of it, before it is paid for, and says what to do where not."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from selectllm.errors import ModelError, SelectLLMError, TransientError
from selectllm.llm import open_model
from selectllm.llm.hosts import HostPool
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Reply, Request
from selectllm.ranking import answers
from selectllm.ranking.prompts import Candidate, listwise, max_answer_tokens, pointwise
from selectllm.ranking.ranker import log_odds
from selectllm.settings import RankingSettings, RunSettings

PARALLEL_QUESTIONS: Final = 4
"""Questions sent at once, to see how many are answered at a time."""

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
    """One thing that was checked: whether it is well, what was observed, and what to do where it is not."""

    name: str
    ok: bool
    observation: str
    advice: str = ""


async def diagnose(settings: RunSettings, keys: ApiKeys) -> AsyncIterator[Finding]:
    """Check each host in turn, and yield the findings as they come; a host that cannot be asked has one finding."""
    options = settings.ranking
    for host in options.hosts or ("",):
        prefix = f"{host} " if len(options.hosts) > 1 else ""
        update = {"hosts": (host,) if host else (), "concurrency": PARALLEL_QUESTIONS, "retries": 0}
        try:
            hosts = await open_model(settings.selector, options.model_copy(update=update), keys)
        except SelectLLMError as error:
            yield Finding(f"{prefix}server", False, str(error))
            continue
        try:
            async for finding in _diagnose_host(hosts, options):
                yield Finding(prefix + finding.name, finding.ok, finding.observation, finding.advice)
        finally:
            await hosts.close()


async def _diagnose_host(hosts: HostPool, options: RankingSettings) -> AsyncIterator[Finding]:
    info = hosts.info
    yield Finding("server", True, f"answers, version {info.server_version}")
    yield Finding("model", True, f"{info.name}, digest {info.digest[:12]}")
    max_tokens = 2 * max_answer_tokens(14, options.think != "off")
    try:
        await hosts.prepare(14 * options.candidate_chars, max_tokens, wait=False)
        loaded, reply = await _timed(hosts, _list(0))
    except ModelError as error:
        yield Finding("query", False, str(error), _advice(error))
        return
    yield _context(hosts, options)
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


def _context(hosts: HostPool, options: RankingSettings) -> Finding:
    if hosts.context is None:
        observation = "the server does not say it: prompts that do not fit are its errors, and are then halved"
        return Finding("context", True, observation)
    needed = 14 * options.candidate_chars // 4
    advice = "longer queries will be halved: lower --query-size or --candidate-chars, or choose a model that reads more"
    observation = f"{hosts.context:,} tokens; 14 of the longest candidates take about {needed:,}"
    return Finding("context", hosts.context >= needed, observation, advice)


def _structured(reply: Reply) -> Finding:
    answer = answers.read(reply.text, 2, len(CANDIDATES))
    if answer.fault is None and not answer.repaired:
        observation = f"a query of {len(CANDIDATES)} was ranked as asked, {reply.prompt_tokens} tokens read"
        return Finding("query", True, observation)
    repaired = answer.fault is None
    observation = "an answer had to be repaired" if repaired else f"an answer could not be used: {answer.fault}"
    advice = "the server may not hold answers to a schema; runs cope, but ask more. A small model: try --mode pointwise"
    return Finding("query", repaired, observation, advice)


async def _logprobs(hosts: HostPool) -> Finding:
    """Only --mode pointwise needs them: in listwise mode a selector does as well without."""
    advice = "use --mode listwise, which does not need them; Ollama has them since 0.12"
    try:
        odds = log_odds(await _ask(hosts, pointwise(CANDIDATES[0]).request()))
        observation = "yes and no are not among the likeliest tokens"
    except ModelError as error:
        odds, observation = None, str(error)
    if odds is not None:
        return Finding("log-probabilities", True, f"there, log-odds {odds:+.2f} for a rich row")
    if hosts.info.mode == "pointwise":
        return Finding("log-probabilities", False, observation, advice)
    return Finding("log-probabilities", True, f"not there, and not needed in listwise mode: {observation}")


async def _parallel(hosts: HostPool, loaded: float) -> Finding:
    count = PARALLEL_QUESTIONS
    try:
        single = min(loaded, (await _timed(hosts, _list(1)))[0])
        parallel = (await _timed(hosts, *(_list(seed) for seed in range(2, 2 + count))))[0]
    except ModelError as error:
        return Finding("parallelism", False, str(error), "the server fails under load: lower --concurrency")
    at_once = count * single / parallel
    observation = (
        f"{single:.2f} s for one question, {parallel:.2f} s for {count} at once: about {at_once:.1f} at a time"
    )
    return Finding("parallelism", True, observation)


def _list(seed: int) -> Request:
    return listwise(CANDIDATES, 2, seed).request()


async def _ask(hosts: HostPool, request: Request) -> Reply:
    async with hosts.answer(request) as reply:
        return reply


async def _timed(hosts: HostPool, *requests: Request) -> tuple[float, Reply]:
    started = time.perf_counter()
    replies = await asyncio.gather(*(_ask(hosts, request) for request in requests))
    return time.perf_counter() - started, replies[0]
