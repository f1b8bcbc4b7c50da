"""Checks whether a selector can do what a run will ask of it, before it is paid for, and says what to do where not."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from selectllm.errors import (
    ContextLengthExceeded,
    ModelChanged,
    ModelError,
    ModelUnavailable,
    SelectLLMError,
    TransientError,
)
from selectllm.llm import open_model
from selectllm.llm.context_guard import LOW_COUNT
from selectllm.llm.hosts import HostPool
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Reply, Request, Think
from selectllm.llm.openai import OLLAMA, OLLAMA_TRAP
from selectllm.llm.speed import Speed, time_warning
from selectllm.paths import redact_url
from selectllm.ranking.answers import log_odds, read, read_ranking
from selectllm.ranking.lists import gather_or_raise
from selectllm.ranking.parallelism import MOST_AT_ONCE, ask_one, measure
from selectllm.ranking.prompts import Candidate, Prompt, listwise, max_answer_tokens, pointwise
from selectllm.ranking.thinking import (
    CANDIDATES,
    TEXTS,
    TOP_K,
    best_way,
    fitness,
    name_of,
    next_way,
    trial,
    ways_to_ask,
)
from selectllm.settings import RunSettings

ORDERS: Final = 6  # of a query's candidates, to see whether answers depend on what is shown
LEAST_ORDERS: Final = 4  # of a query's candidates, to which a judge does not give the same numbers by chance
LIMIT_TOKENS: Final = 8  # that an answer may have which could be much longer
NEW_LINES: Final = 16  # that a speed is measured with: some hundred tokens
PATIENCE: Final = 60.0  # seconds that a server may refuse all questions

SHORTER: Final = "lower --query-size or --candidate-chars, or choose a model that reads more"
ADVICE: Final = {
    "timeout": "raise --timeout, or choose a smaller model: loading one from a slow disk takes minutes",
    "busy": "try again when the server has less to do, or name further hosts; a run waits and tries again",
    "out of memory": "choose a smaller model or quantization, or unload what `ollama ps` shows beside it",
    "runner died": "look at the server's log and its memory (`ollama ps`), restart it, and try again",
    "connection": "see whether the server still runs, and what its log says",
    "low count": "the server cuts prompts: raise its context (OLLAMA_CONTEXT_LENGTH for Ollama)",
}
"""What helps against an error that can pass, by its kind."""

CUT_OFF: Final = {
    "length": "the model writes more than the answer, or thinks first: choose one that does not, or set --think",
    "content_filter": "the server filters what it is asked or answers: lift the filter, or choose another model",
}
"""What helps against an answer that did not come to its end, by the reason that the server gives."""


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
        prefix = f"{redact_url(host or '')} " if len(hosts) > 1 else ""
        changes = {
            "hosts": (host,) if host else (),
            "concurrency": MOST_AT_ONCE,
            "retries": 0,
            "give_up_after": PATIENCE,
        }
        try:
            pool = await open_model(settings.selector, settings.ranking.model_copy(update=changes), keys)
        except SelectLLMError as error:
            yield Finding(f"{prefix}server", False, str(error))
            continue
        try:
            async for finding in _diagnose_host(pool, settings):
                yield replace(finding, name=prefix + finding.name)
        finally:
            await pool.close()


async def _diagnose_host(hosts: HostPool, run: RunSettings) -> AsyncIterator[Finding]:
    info, settings = hosts.info, run.ranking
    if info.server_version == OLLAMA:
        advice = f"use --selector ollama:{info.name}, and --host without /v1: no prompt is cut there"
        yield Finding("server", False, f"is Ollama, which {OLLAMA_TRAP}", advice)
    else:
        yield Finding("server", True, f"answers, version {info.server_version}")
    yield Finding("model", True, f"{info.name}, digest {info.digest[:12]}")
    is_pointwise = info.mode == "pointwise"
    ways = ways_to_ask(settings.think, info)
    max_tokens = 2 * max_answer_tokens(run.queries.size, ways[-1])
    trials: dict[Think, Reply] = {}
    try:
        await hosts.prepare(run.queries.size * settings.candidate_chars, max_tokens, wait=False)
        if is_pointwise:
            trials[False] = await ask_one(hosts, pointwise(CANDIDATES[0]).request())
        while not is_pointwise and (way := next_way(ways, trials)) is not None:
            trials[way] = await _tried(hosts, way, is_first=not trials)
    except ModelError as error:
        yield Finding("query", False, str(error), _advice(error))
        return
    think = best_way(trials) if not is_pointwise else False
    yield await _context(hosts, run)
    if not is_pointwise:
        if len(ways) > 1 or settings.think != "auto":
            yield _thinking(settings.think, think, trials)
        yield _structured(trials[think], listwise(CANDIDATES, TOP_K, 0))
    yield await _limit(hosts)
    yield await _speed(hosts, run, think)
    if is_pointwise:
        yield _log_probabilities(hosts, trials[False])
    else:
        yield await _further_log_probabilities(hosts)
    try:
        parallelism = await measure(hosts, think)
        yield Finding("parallelism", True, parallelism.text(settings.concurrency))
        if not is_pointwise and info.kind != "scripted":
            yield await _judgement(hosts, think)
    except ModelError as error:
        yield Finding("parallelism", False, str(error), f"{_advice(error)}; lower --concurrency")


def _advice(error: ModelError) -> str:
    """What helps; the text of an error that will not pass says it itself."""
    if isinstance(error, ContextLengthExceeded):
        return SHORTER
    if isinstance(error, TransientError):
        return ADVICE.get(error.kind, ADVICE["runner died"])
    return "look at the server's log, which may say more"


async def _context(hosts: HostPool, run: RunSettings) -> Finding:
    size, chars = run.queries.size, run.ranking.candidate_chars
    needed = size * chars // 4
    advice = f"longer queries will be halved: {SHORTER}"
    if hosts.context is None:  # what it is shows only in how it reads a long query
        try:
            tokens = (await _answer_to_longest(hosts, size, chars)).prompt_tokens
        except ContextLengthExceeded as error:
            return Finding("context", False, str(error), advice)
        except ModelError as error:
            return Finding("context", False, str(error), _advice(error))
        seen = f"{tokens:,} tokens of {size} of the longest candidates were read whole"
        return Finding("context", True, seen if tokens else "unknown: the server counts no tokens")
    seen = f"{hosts.context:,} tokens; {size} of the longest candidates take about {needed:,}"
    return Finding("context", hosts.context >= needed, seen, advice)


async def _answer_to_longest(hosts: HostPool, size: int, candidate_chars: int) -> Reply:
    """The answer to the longest query; ContextLengthExceeded when it does not fit, or is cut twice."""
    text = f"{TEXTS['rich']} " * (candidate_chars // len(TEXTS["rich"]) + 1)
    candidates = [Candidate(str(number), text[:candidate_chars]) for number in range(size)]
    request = listwise(candidates, 2, 0).request()
    try:
        return await ask_one(hosts, request)
    except TransientError as error:
        if error.kind != LOW_COUNT:
            raise
    return await ask_one(hosts, request)


async def _limit(hosts: HostPool) -> Finding:
    """Whether answers end where they are told to: one that does not takes minutes, and is paid for."""
    request = Request("Count from 1 to 100.", max_tokens=LIMIT_TOKENS)
    try:
        if (await ask_one(hosts, request)).output_tokens <= LIMIT_TOKENS:
            return Finding("limit", True, f"an answer of at most {LIMIT_TOKENS} tokens had no more")
        tokens = (await ask_one(hosts, request)).output_tokens
    except ModelError as error:
        return Finding("limit", False, str(error), "the server's log says more")
    if tokens <= LIMIT_TOKENS:
        return Finding("limit", True, "max_completion_tokens is ignored: max_tokens is sent, which is heeded")
    seen = f"an answer of at most {LIMIT_TOKENS} tokens had {tokens:,}"
    return Finding("limit", False, seen, "answers may be long and slow: set a limit in the server's own settings")


def _thinking(setting: str, think: Think, trials: Mapping[Think, Reply]) -> Finding:
    """How the model is asked to think, and whether that works."""
    tokens = trials[think].output_tokens
    if fitness(think, trials[think]):
        why = "" if setting != "auto" else f", tried in this order: {', '.join(map(name_of, trials))}"
        return Finding("thinking", True, f"{name_of(think)}{why}; an answer took {tokens:,} tokens")
    advice = "use --think auto" if setting != "auto" else "look at how the server parses thoughts, or use another model"
    return Finding("thinking", False, f"no usable answer with thinking {', '.join(map(name_of, trials))}", advice)


def _structured(reply: Reply, prompt: Prompt) -> Finding:
    answer = read_ranking(reply, prompt)
    if answer.fault is None and not answer.repaired:
        seen = f"a query of {len(CANDIDATES)} was ranked as asked, {reply.prompt_tokens} tokens read"
        return Finding("query", True, seen)
    if reply.done_reason != "stop":
        seen = f"an answer did not come to its end: {reply.done_reason}"
        return Finding("query", False, seen, CUT_OFF.get(reply.done_reason, ADVICE["runner died"]))
    seen = "an answer had to be repaired" if answer.fault is None else f"an answer could not be used: {answer.fault}"
    advice = "the server may not hold answers to a schema; runs cope, but ask more. A small model: try --mode pointwise"
    return Finding("query", answer.fault is None, seen, advice)


async def _speed(hosts: HostPool, run: RunSettings, think: Think) -> Finding:
    """How long the longest query takes, by a text that no server has in its cache."""
    request = listwise(CANDIDATES, 2, 0).request()
    request = replace(request, text="\n".join(uuid4().hex for _ in range(NEW_LINES)) + "\n\n" + request.text)
    started = time.perf_counter()
    try:
        reply = await ask_one(hosts, request)
    except ModelError as error:
        advice = "the server fails with longer prompts: look at its log and its memory"
        return Finding("speed", False, str(error), advice)
    if not reply.prompt_duration:  # the server does not count its time
        reply = replace(reply, prompt_duration=round(1e9 * (time.perf_counter() - started)))
    speed = Speed.of([reply])
    if speed is None:
        return Finding("speed", True, "not known: the server counts no tokens")
    size, settings = run.queries.size, run.ranking
    tokens = size * settings.candidate_chars // 4
    longest = speed.seconds(tokens, max_answer_tokens(settings.depth, think))
    seen = f"{speed.read:,.0f} tokens read a second: {size} of the longest candidates, about {tokens:,} tokens, "
    advice = time_warning(longest, settings)
    return Finding("speed", not advice, f"{seen}take about {longest:,.0f} s", advice)


def _log_probabilities(hosts: HostPool, reply: Reply) -> Finding:
    odds = log_odds(reply)
    if odds is not None:
        return Finding("log-probabilities", True, f"available, log-odds {odds:+.2f} for a rich row")
    seen = "yes and no are not among the likeliest tokens"
    if hosts.info.mode == "pointwise":
        advice = "use --mode listwise, which does not need them; Ollama has them since 0.12"
        return Finding("log-probabilities", False, seen, advice)
    return Finding("log-probabilities", True, f"not available, and not needed in listwise mode: {seen}")


async def _further_log_probabilities(hosts: HostPool) -> Finding:
    """Only --mode pointwise needs them: without them a selector is as good in listwise mode."""
    try:
        return _log_probabilities(hosts, await ask_one(hosts, pointwise(CANDIDATES[0]).request()))
    except ModelError as error:
        seen = f"not available, and not needed in listwise mode: {error}"
        return Finding("log-probabilities", True, seen)


async def _judgement(hosts: HostPool, think: Think) -> Finding:
    """Whether answers depend on what is shown: each question shows the same candidates in another order."""
    requests = [listwise(CANDIDATES, TOP_K, seed).request(think=think) for seed in range(ORDERS)]
    replies = await gather_or_raise(ask_one(hosts, request) for request in requests)
    answers = [read(reply.text, TOP_K, len(CANDIDATES)).numbers for reply in replies]
    usable = [numbers for numbers in answers if numbers]
    if len(usable) < LEAST_ORDERS or len(set(usable)) > 1:
        return Finding("judgement", True, f"{len(set(usable))} different answers to {len(usable)} orders of a query")
    numbers = ", ".join(map(str, usable[0]))
    seen = f"answered {numbers} to all of {len(usable)} orders of a query: it does not look at the candidates"
    return Finding("judgement", False, seen, "choose a stronger model, or try --mode pointwise")


async def _tried(hosts: HostPool, way: Think, *, is_first: bool) -> Reply:
    """The reply to the trial of a way to think; an empty one where there is no such way."""
    try:
        return await ask_one(hosts, trial(way))
    except ModelError as error:
        if is_first or isinstance(error, (TransientError, ModelUnavailable, ModelChanged)):
            raise
        return Reply("", "refused")
