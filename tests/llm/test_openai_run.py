"""A complete run over OpenAI's API, with the same checks, ledger and statistics as with Ollama."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from selectllm import select
from selectllm.llm import backoff
from selectllm.llm.context_guard import warn_once
from selectllm.llm.model import ModelInfo
from selectllm.settings import RunSettings
from tests.llm.openai_server import serve

CONTEXT_TOKENS = 4096  # to which the server cuts a prompt without saying so, as Ollama does over this API

ASKED: list[dict[str, Any]] = []
COUNTED: list[int] = []  # tokens of the prompts that were answered


async def listing(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]})


def refused(message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "code": "rate_limit_exceeded"}}, 429, headers)


async def completion(request: Request) -> Response:
    """Ranks shown numbers in reverse order. Every seventh request comes too soon; every fifth answer is prose."""
    body = json.loads(await request.body())
    ASKED.append(body)
    if len(ASKED) % 7 == 0:
        return refused("slow down")
    return answered(body, is_prose=len(ASKED) % 5 == 0)


class Limited:
    """Takes 10 requests in each window of 0.2 s, and names the time that is left of it, or not."""

    def __init__(self, *, names: bool) -> None:
        self.names, self.window, self.taken = names, 0.0, 0
        self.refused = 0

    async def completion(self, request: Request) -> Response:
        body, now = json.loads(await request.body()), time.monotonic()
        if now >= self.window + 0.2:
            self.window, self.taken = now, 0
        self.taken += 1
        if self.taken <= 10:
            return answered(body)
        self.refused += 1
        left = 1000 * (self.window + 0.2 - now)
        return refused("slow down", {"retry-after-ms": f"{left:.0f}"} if self.names else None)


def answered(body: dict[str, Any], *, is_prose: bool = False) -> Response:
    ranking = body["response_format"]["json_schema"]["schema"]["properties"]["ranking"]
    answer = json.dumps({"ranking": ranking["items"]["enum"][::-1][: ranking["minItems"]]})
    message = {"role": "assistant", "content": "I would rather talk." if is_prose else answer}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    COUNTED.append(min(len(body["messages"][0]["content"]) // 4, CONTEXT_TOKENS))
    usage = {"prompt_tokens": COUNTED[-1], "completion_tokens": 10, "total_tokens": COUNTED[-1] + 10}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return JSONResponse({**head, "choices": [choice], "usage": usage})


@contextmanager
def served(complete: Callable[[Request], Awaitable[Response]]) -> Iterator[str]:
    """Serve a completion; gives the base URL."""
    routes = [Route("/v1/models", listing), Route("/v1/chat/completions", complete, methods=["POST"])]
    with serve(Starlette(routes=routes)) as url:
        yield url


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    warn_once.cache_clear()


@pytest.fixture
def base_url() -> Iterator[str]:
    ASKED.clear()
    COUNTED.clear()
    with served(completion) as url:
        yield url


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.usefixtures("quick_embedding")
def test_a_run_ends_well_within_a_rate_limit(names: bool, make_run: Callable[..., RunSettings]) -> None:
    limited = Limited(names=names)
    with served(limited.completion) as url:
        summary = select(make_run(rows=420, budget=30, selector="openai:m", ranking={"hosts": [url]})).summary
    assert summary["ranking"]["abstained"] == 0
    assert summary["ranking"]["asked"] >= 30
    assert summary["ranking"]["errors_by_kind"] == {"rate limit": limited.refused}
    assert limited.refused < 30


@pytest.mark.usefixtures("quick_embedding")
def test_a_run_works_over_openais_api(base_url: str, make_run: Callable[..., RunSettings]) -> None:
    ranking = {"hosts": [base_url], "price_in": 1.0, "price_out": 2.0, "concurrency": 2}
    settings = make_run(rows=280, budget=20, selector="openai:m", ranking=ranking)
    summary = select(settings).summary
    asked = len(ASKED)
    assert summary["selection"] == {"budget": 20, "selected": 20, "excluded": 0}
    assert summary["ranking"]["errors_by_kind"]["rate limit"] >= 2
    assert summary["ranking"]["errors_by_kind"]["unreadable"] >= 2
    assert summary["ranking"]["abstained"] == 0
    assert summary["model"]["selector"] == "openai:m"
    replies = summary["ranking"]["asked"]
    assert replies + summary["ranking"]["errors_by_kind"]["rate limit"] == asked
    assert summary["cost"]["this_run"] == pytest.approx((sum(COUNTED) * 1.0 + replies * 10 * 2.0) / 1e6, abs=1e-6)
    again = select(settings).summary
    assert (again["ranking"]["asked"], len(ASKED)) == (0, asked)


@pytest.mark.usefixtures("quick_embedding")
def test_queries_that_a_server_cuts_are_halved(
    base_url: str, tmp_path: Path, make_run: Callable[..., RunSettings], caplog: pytest.LogCaptureFixture
) -> None:
    pool = tmp_path / "long.jsonl"
    pool.write_text("\n".join(json.dumps({"instruction": f"Task {n}: " + "explain it " * 160}) for n in range(42)))
    settings = make_run(pool=str(pool), budget=3, selector="openai:m", ranking={"hosts": [base_url], "concurrency": 1})
    answered_before = len(COUNTED)
    result = select(settings)
    summary = result.summary["ranking"]
    assert summary["asked"] == len(COUNTED) - answered_before, "replies to cut prompts are paid for, too"
    assert (summary["ranked"], summary["split"], summary["abstained"]) == (3, 3, 0)
    assert 1 <= summary["errors_by_kind"]["low count"] <= 2, "the cut is known after the first queries"
    assert "m cuts long prompts without saying so" in caplog.text
    folder = f"replies/{ModelInfo('', '', 'openai:m', '', 'model', 'listwise').key}"
    lines = [line for name in result.store.list(folder) for line in result.store.read_bytes(name).splitlines()]
    kept = [json.loads(line)["reply"]["prompt_tokens"] for line in lines]
    assert kept
    assert max(kept) < CONTEXT_TOKENS, "no reply to a cut prompt is kept"
