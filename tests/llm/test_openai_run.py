"""A complete run over OpenAI's API, with the same checks, ledger and statistics as with Ollama."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from selectllm import select
from selectllm.llm import backoff
from selectllm.settings import RunSettings

ASKED: list[dict[str, Any]] = []


async def listing(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]})


async def completion(request: Request) -> Response:
    """Ranks shown numbers in reverse order. Every seventh request comes too soon; every fifth answer is prose."""
    body = json.loads(await request.body())
    ASKED.append(body)
    if len(ASKED) % 7 == 0:
        return JSONResponse({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429)
    ranking = body["response_format"]["json_schema"]["schema"]["properties"]["ranking"]
    answer = json.dumps({"ranking": ranking["items"]["enum"][::-1][: ranking["minItems"]]})
    message = {"role": "assistant", "content": "I would rather talk." if len(ASKED) % 5 == 0 else answer}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return JSONResponse({**head, "choices": [choice], "usage": usage})


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    ASKED.clear()
    routes = [Route("/v1/models", listing), Route("/v1/chat/completions", completion, methods=["POST"])]
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    server.should_exit = True
    thread.join(10)


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
    assert summary["cost"]["this_run"] == pytest.approx(replies * (100 * 1.0 + 10 * 2.0) / 1e6, abs=1e-6)
    again = select(settings).summary
    assert (again["ranking"]["asked"], len(ASKED)) == (0, asked)
