"""The Ollama path, through the official client, against an app that speaks the wire and misbehaves as told."""

import dataclasses
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from selectllm.errors import ContextLengthExceeded, HostUnreachable, ModelError, SelectorUnavailable, TransientError
from selectllm.llm import Request, open_model
from selectllm.llm.ollama import OllamaModel, open_ollama
from selectllm.ranking.prompts import Candidate, listwise, pointwise
from selectllm.settings import RankingSettings

CANDIDATES = [Candidate(f"{number}", f"Task {number}") for number in range(5)]
QUESTION = Request(listwise(CANDIDATES, 2, seed=0), seed=3)
GOOD = {
    "model": "m:latest",
    "created_at": "2026-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": '{"ranking": [2, 1]}'},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 321,
    "eval_count": 9,
    "total_duration": 5,
}


class Server:
    """An app that lists one model and answers chats with the replies it was given, one after the other."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.context = 0
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.app = Starlette(
            routes=[
                Route("/api/version", self.version),
                Route("/api/tags", self.tags),
                Route("/api/show", self.show, methods=["POST"]),
                Route("/api/ps", self.ps),
                Route("/api/chat", self.reply, methods=["POST"]),
                Route("/api/generate", self.reply, methods=["POST"]),
            ]
        )

    async def version(self, request: HttpRequest) -> Response:
        self.headers.append(dict(request.headers))
        return JSONResponse({"version": "0.30.0"})

    async def tags(self, _: HttpRequest) -> Response:
        return JSONResponse({"models": [{"name": "m:latest", "model": "m:latest", "digest": "d1", "size": 1}]})

    async def ps(self, _: HttpRequest) -> Response:
        running = {"name": "m:latest", "model": "m:latest", "digest": "d1", "context_length": self.context}
        return JSONResponse({"models": [running] if self.context else []})

    async def show(self, _: HttpRequest) -> Response:
        info = {"general.architecture": "llama", "llama.context_length": 8192}
        return JSONResponse({"details": {}, "model_info": info, "capabilities": ["completion"]})

    async def reply(self, request: HttpRequest) -> Response:
        self.seen.append(json.loads(await request.body()))
        self.headers.append(dict(request.headers))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply):
            return await reply()  # type: ignore[no-any-return]
        status, body = reply if isinstance(reply, tuple) else (200, reply)
        return JSONResponse(body, status)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


async def opened(server: Server, name: str = "m", host: str | None = "http://model.example") -> OllamaModel:
    return await open_ollama(name, host=host, transport=httpx.ASGITransport(app=server.app))


@pytest.mark.asyncio
async def test_the_card_says_who_is_asked() -> None:
    card = (await opened(Server(GOOD))).card
    assert (card.name, card.digest, card.server_version, card.quality, card.mode) == (
        "m:latest",  # however it was asked for
        "d1",
        "0.30.0",
        "model",
        "listwise",
    )
    assert card.selector == "ollama:m"


@pytest.mark.asyncio
async def test_a_request_is_whole_and_explicit() -> None:
    server = Server(GOOD)
    model = await opened(server)
    await model.prepare(5_000, 500)
    reply = await model.answer(QUESTION)
    assert (reply.text, reply.done_reason, reply.prompt_tokens, reply.output_tokens) == (
        '{"ranking": [2, 1]}',
        "stop",
        321,
        9,
    )
    sent = server.seen[-1]
    assert sent["format"] == QUESTION.prompt.schema
    assert sent["truncate"] is False
    assert sent["shift"] is False
    assert sent["think"] is False
    assert sent["stream"] is False
    assert sent["options"] == {"temperature": 0, "seed": 3, "num_predict": QUESTION.num_predict, "num_ctx": 3072}
    assert sent["messages"] == [{"role": "user", "content": QUESTION.prompt.text}]


@pytest.mark.parametrize(("think", "room"), [(False, 0), ("low", 4096), (True, 4096)])
@pytest.mark.asyncio
async def test_whether_to_think_is_always_said_and_given_room(think: Any, room: int) -> None:
    server = Server(GOOD)
    await (await opened(server)).answer(dataclasses.replace(QUESTION, think=think))
    assert server.seen[0]["think"] == think
    assert server.seen[0]["options"]["num_predict"] == QUESTION.num_predict + room


@pytest.mark.asyncio
async def test_a_pointwise_question_asks_for_log_probabilities() -> None:
    logprob = {
        "token": " yes",
        "logprob": -0.1,
        "top_logprobs": [{"token": " yes", "logprob": -0.1}, {"token": " no", "logprob": -2.5}],
    }
    server = Server(
        {
            "model": "m",
            "created_at": "x",
            "response": " yes",
            "done": True,
            "done_reason": "length",
            "logprobs": [logprob],
        }
    )
    reply = await (await opened(server)).answer(Request(pointwise(CANDIDATES[0])))
    assert reply.logprobs == {" yes": -0.1, " no": -2.5}
    assert (server.seen[0]["raw"], server.seen[0]["logprobs"], server.seen[0]["options"]["num_predict"]) == (
        True,
        True,
        1,
    )
    assert server.seen[0]["truncate"] is False


@pytest.mark.asyncio
async def test_the_context_is_one_for_the_run_and_at_most_the_models_own() -> None:
    model = await opened(Server(GOOD))
    await model.prepare(5_000, 500)
    assert model.context == 3072
    await model.prepare(30_000, 500)
    assert model.context == 8192


@pytest.mark.asyncio
async def test_the_model_is_loaded_once_and_its_real_context_is_looked_up() -> None:
    server = Server(GOOD)
    server.context = 2048
    model = await opened(server)
    await model.prepare(30_000, 500)
    assert server.seen[0]["messages"] == []
    assert server.seen[0]["options"] == {"num_ctx": 8192}
    assert model.context == 2048


async def _broken() -> Response:
    raise httpx.ReadError("connection reset")


async def _half() -> Response:
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


async def _late() -> Response:
    raise httpx.ReadTimeout("")


async def _no_json() -> Response:
    return Response('{"model": "m", "mess', 200)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ((503, {"error": "server busy, please try again.  maximum pending requests exceeded"}), "busy"),
        ((429, {"error": "slow down"}), "busy"),
        ((502, {"error": "bad gateway"}), "bad gateway"),
        ((504, {"error": "gateway timeout"}), "timeout"),
        ((524, {"error": "a timeout occurred"}), "bad gateway"),
        ((500, {"error": "model requires more system memory (9 GiB) than is available"}), "out of memory"),
        ((500, {"error": "model runner has unexpectedly stopped"}), "runner died"),
        (_broken, "connection"),
        (_half, "cut off"),
        (_late, "timeout"),
        (_no_json, "cut off"),
        (GOOD | {"done": False}, "unfinished"),
        (GOOD | {"prompt_eval_count": 40}, "low count"),
    ],
)
@pytest.mark.asyncio
async def test_what_can_pass_is_told_by_its_kind(failure: Any, kind: str) -> None:
    model = await opened(Server(failure))
    with pytest.raises(TransientError) as error:
        await model.answer(QUESTION)
    assert error.value.kind == kind
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "advice"),
    [(400, ""), (401, "OLLAMA_API_KEY"), (403, "OLLAMA_API_KEY"), (404, "ollama pull m"), (500, "")],
)
@pytest.mark.asyncio
async def test_what_cannot_pass_is_told_with_what_to_do(status: int, advice: str) -> None:
    model = await opened(Server((status, {"error": "no such thing"})))
    with pytest.raises(ModelError, match=f"status {status}: no such thing") as error:
        await model.answer(QUESTION)
    assert not isinstance(error.value, TransientError)
    assert advice in str(error.value)


@pytest.mark.asyncio
async def test_a_prompt_that_does_not_fit_is_told_apart() -> None:
    server = Server((400, {"error": "the input length exceeds the context length"}))
    with pytest.raises(ContextLengthExceeded):
        await (await opened(server)).answer(QUESTION)


@pytest.mark.asyncio
async def test_a_prompt_that_cannot_fit_is_not_even_sent() -> None:
    server = Server(GOOD)
    model = await opened(server)
    await model.prepare(30_000, 500)
    sent = len(server.seen)
    with pytest.raises(ContextLengthExceeded, match="do not fit the 8,192 tokens"):
        await model.answer(Request(listwise([Candidate("a", "x" * 70_000), *CANDIDATES], 2, seed=0)))
    assert len(server.seen) == sent


@pytest.mark.asyncio
async def test_a_count_beyond_the_context_is_not_believed() -> None:
    model = await opened(Server(GOOD | {"prompt_eval_count": 3070, "done_reason": "length"}))
    await model.prepare(5_000, 500)
    with pytest.raises(ContextLengthExceeded, match="more than the 3,072 that it reads"):
        await model.answer(QUESTION)


@pytest.mark.asyncio
async def test_prompts_of_another_script_are_not_taken_for_cut() -> None:
    size = len(QUESTION.prompt.text.encode())
    counts = [*[round(size / 1.4)] * 9, round(size / 4.5)]
    model = await opened(Server(*(GOOD | {"prompt_eval_count": count} for count in counts)))
    await model.prepare(5_000, 500)
    for _ in range(9):
        await model.answer(QUESTION)


@pytest.mark.parametrize(("tokens", "is_cut"), [(1538, True), (1600, False)])
@pytest.mark.asyncio
async def test_half_a_context_is_what_a_prompt_was_cut_to(tokens: int, is_cut: bool) -> None:
    question = Request(listwise([Candidate(f"{n}", "x" * 400) for n in range(12)], 2, seed=0))
    model = await opened(Server(*[GOOD | {"prompt_eval_count": 2400}] * 9, GOOD | {"prompt_eval_count": tokens}))
    await model.prepare(5_000, 500)
    assert model.context == 3072
    for _ in range(8):
        await model.answer(question)
    if is_cut:
        with pytest.raises(TransientError, match="it was cut"):
            await model.answer(question)
    else:
        assert (await model.answer(question)).prompt_tokens == tokens


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [(401, SelectorUnavailable, "OLLAMA_API_KEY"), (503, HostUnreachable, "status 503: try again")],
)
@pytest.mark.asyncio
async def test_a_server_that_does_not_say_who_it_is(status: int, error: type[Exception], said: str) -> None:
    app = Starlette(routes=[Route("/api/version", lambda _: JSONResponse({"error": "no"}, status))])
    with pytest.raises(error, match=said):
        await open_ollama("m", host="http://model.example", transport=httpx.ASGITransport(app=app))


@pytest.mark.asyncio
async def test_a_password_in_a_host_is_not_repeated() -> None:
    with pytest.raises(SelectorUnavailable) as error:
        await open_ollama("m", host="http://user:hunter2@host:port")
    assert "hunter2" not in str(error.value)


@pytest.mark.asyncio
async def test_an_unknown_model_names_the_exact_command() -> None:
    with pytest.raises(SelectorUnavailable, match=r"has no model 'gemma2:27b'\. Get it with: ollama pull gemma2:27b$"):
        await opened(Server(GOOD), name="gemma2:27b")


@pytest.mark.asyncio
async def test_a_host_that_does_not_answer_is_named() -> None:
    with pytest.raises(SelectorUnavailable, match=r"no Ollama server answers at http://127.0.0.1:9\."):
        await open_model("ollama:m", RankingSettings(hosts=("http://127.0.0.1:9",)))


@pytest.mark.asyncio
async def test_another_kind_of_server_is_told_apart() -> None:
    app = Starlette(routes=[Route("/api/version", lambda _: Response("<html>", 200))])
    with pytest.raises(SelectorUnavailable, match="does not answer as Ollama does"):
        await open_ollama("m", host="http://model.example", transport=httpx.ASGITransport(app=app))


@pytest.mark.parametrize(
    ("host", "named", "sees"),
    [
        ("http://model.example", None, False),
        ("http://model.example", "http://model.example", True),
        (None, "http://model.example", True),
        (None, None, False),
        ("https://ollama.com", None, True),
        ("http://model.example", "http://other.example", False),
    ],
)
@pytest.mark.asyncio
async def test_the_key_goes_only_where_it_was_meant_to(
    host: str | None, named: str | None, sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    if named:
        monkeypatch.setenv("OLLAMA_HOST", named)
    server = Server(GOOD)
    await (await opened(server, host=host)).answer(QUESTION)
    assert {"authorization" in headers for headers in server.headers} == {sees}
