"""Models of Ollama, through the official client, against an app that speaks its protocol and fails on demand."""

import dataclasses
import json
from typing import Any

import httpx
import pytest
from starlette import requests
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from selectllm.errors import (
    ContextLengthExceeded,
    HostUnreachable,
    ModelChanged,
    ModelError,
    ModelUnavailable,
    SelectorUnavailable,
    TransientError,
)
from selectllm.llm import open_model
from selectllm.llm.keys import ApiKeys, ProviderKey
from selectllm.llm.model import Request
from selectllm.llm.ollama import BLANK_TOKENS, OllamaModel, open_ollama
from selectllm.settings import RankingSettings
from tests.llm.in_process import in_process

SCHEMA = {"type": "object", "properties": {"ranking": {"type": "array"}}}
QUESTION = Request("Which two are best? " * 50, SCHEMA, max_tokens=48, seed=3)
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
RUNNER_DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details",
    "an error was encountered while running the model: unexpected EOF",
    "an error was encountered while running the model: read tcp 127.0.0.1:5->127.0.0.1:6: connection reset by peer",
    "llama runner process has terminated: exit status 2",
    "llama runner process has terminated: signal: killed",
    "llama runner process no longer running: -1 ",
    'POST predict: Post "http://127.0.0.1:40953/completion": EOF',
    'do load request: Post "http://127.0.0.1:35011/load": dial tcp 127.0.0.1:35011: connect: connection refused',
    "timed out waiting for llama runner to start - progress 0.00 - ",
)
"""What Ollama says, with status 500, when the process that runs the model has died."""


class Server:
    """An app that lists one model and answers chats with given replies, in order."""

    def __init__(self, *replies: Any, digests: dict[str, str | None] | None = None) -> None:
        self.replies = list(replies)
        self.digests = digests or {"m:latest": "d1"}
        self.weights: dict[str, str] = {}  # by a model's name, as its modelfile names them
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

    async def version(self, request: requests.Request) -> Response:
        self.headers.append(dict(request.headers))
        return JSONResponse({"version": "0.30.0"})

    async def tags(self, _: requests.Request) -> Response:
        models = [{"name": name, "model": name, "digest": digest, "size": 1} for name, digest in self.digests.items()]
        return JSONResponse({"models": models})

    async def ps(self, _: requests.Request) -> Response:
        running = {"name": "m:latest", "model": "m:latest", "digest": "d1", "context_length": self.context}
        return JSONResponse({"models": [running] if self.context else []})

    async def show(self, request: requests.Request) -> Response:
        name = json.loads(await request.body())["model"]
        info = {"general.architecture": "llama", "llama.context_length": 8192}
        modelfile = f"# FROM {name}\n\nFROM /models/blobs/sha256-{self.weights[name]}\n" if self.weights else ""
        fields = {"details": {}, "model_info": info, "capabilities": ["completion"], "modelfile": modelfile}
        return JSONResponse(fields)

    async def reply(self, request: requests.Request) -> Response:
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
    with in_process(server.app):
        return await open_ollama(name, host=host, keys=ApiKeys.from_environment())


async def open_app(app: Starlette) -> OllamaModel:
    with in_process(app):
        return await open_ollama("m", host="http://model.example", keys=ApiKeys())


@pytest.mark.asyncio
async def test_a_model_is_known_by_its_digest() -> None:
    info = (await opened(Server(GOOD))).info
    assert (info.name, info.digest, info.server_version, info.kind, info.mode) == (
        "m:latest",  # for every form of the name
        "d1",
        "0.30.0",
        "model",
        "listwise",
    )
    assert info.selector == "ollama:m"


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("m:latest", ["m", "M", "m:latest", "library/m", "registry.ollama.ai/library/m", "Library/M:Latest"]),
        (
            "hf.co/Org/Model-GGUF:Q4_K_M",
            ["hf.co/org/model-gguf:q4_k_m"],
        ),
        ("localhost:5000/org/m:latest", ["localhost:5000/org/m"]),
        ("org/m:latest", ["registry.ollama.ai/org/m"]),
    ],
)
@pytest.mark.asyncio
async def test_a_model_is_found_by_all_its_names(listed: str, names: list[str]) -> None:
    for name in names:
        info = (await opened(Server(GOOD, digests={listed: "d1", "other:latest": "d2"}), name)).info
        assert (info.name, info.digest) == (listed, "d1")


@pytest.mark.parametrize("name", ["other", "org/m", "m:8b", "hf.co/m"])
@pytest.mark.asyncio
async def test_a_model_of_another_name_is_not_found(name: str) -> None:
    with pytest.raises(SelectorUnavailable, match=f"ollama pull {name}$"):
        await opened(Server(GOOD), name)


@pytest.mark.parametrize(
    ("digests", "digest"),
    [
        ({"m:latest": None}, "m:latest"),
        ({"m:latest": ""}, "m:latest"),
        ({"m:latest": "d1", "other:latest": "d1"}, "m:latest d1"),
        ({"m:latest": "d1", "m": "d1"}, "m:latest d1"),
        ({"m:latest": "d1", "other:latest": "d2"}, "d1"),
        ({"m:latest": "d1", "other:latest": None}, "d1"),
    ],
)
@pytest.mark.asyncio
async def test_a_digest_that_tells_no_models_apart_is_joined_by_the_name(
    digests: dict[str, str | None], digest: str
) -> None:
    server = Server(GOOD, digests=digests)
    server.context = 2048
    model = await opened(server, "m:latest")
    assert model.info.digest == digest
    await model.prepare(30_000, 500)
    assert model.context == 2048


@pytest.mark.asyncio
async def test_two_names_of_the_same_weights_share_their_replies() -> None:
    server = Server(GOOD, digests={"m:latest": "d1", "m:8b": "d1"})
    server.weights = {"m:latest": "0" * 64, "m:8b": "0" * 64}
    assert {(await opened(server, name)).info.digest for name in ("m", "m:8b")} == {"d1"}
    server.weights["m:8b"] = "1" * 64
    assert {(await opened(server, name)).info.digest for name in ("m", "m:8b")} == {"m:latest d1", "m:8b d1"}


@pytest.mark.asyncio
async def test_a_model_that_has_changed_under_its_name_is_noticed() -> None:
    server = Server(GOOD)
    model = await opened(server)
    await model.verify()
    server.digests = {"m:latest": "d2"}
    words = r"^m:latest is another model by now at http://model\.example \(digest d2, was d1\)$"
    for look in (model.verify, model.probe):
        with pytest.raises(ModelChanged, match=words):
            await look()
    server.digests = {"other:latest": "d1"}
    with pytest.raises(
        ModelError, match=r"no longer at http://model\.example\. To go on: ollama pull m:latest"
    ) as error:
        await model.verify()
    assert not isinstance(error.value, ModelChanged)


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
    assert sent["format"] == SCHEMA
    assert sent["truncate"] is False
    assert sent["shift"] is False
    assert sent["think"] is False
    assert sent["stream"] is False
    assert sent["options"] == {
        "temperature": 0,
        "seed": 3,
        "num_predict": QUESTION.max_tokens + BLANK_TOKENS,
        "num_ctx": 3072,
    }
    assert sent["messages"] == [{"role": "user", "content": QUESTION.text}]


@pytest.mark.parametrize("think", [False, "low", True])
@pytest.mark.asyncio
async def test_a_request_always_states_whether_to_think(think: Any) -> None:
    server = Server(GOOD)
    await (await opened(server)).answer(dataclasses.replace(QUESTION, think=think))
    assert server.seen[0]["think"] == think


@pytest.mark.asyncio
async def test_a_request_can_ask_for_log_probabilities_of_a_raw_text() -> None:
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
    reply = await (await opened(server)).answer(Request("Worth it:", logprobs=True))
    assert reply.logprobs == {" yes": -0.1, " no": -2.5}
    assert (server.seen[0]["raw"], server.seen[0]["logprobs"], server.seen[0]["options"]["num_predict"]) == (
        True,
        True,
        1,
    )
    assert server.seen[0]["truncate"] is False


@pytest.mark.asyncio
async def test_one_context_size_per_run_within_the_limit_of_the_model() -> None:
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
        ((429, {"error": "slow down"}), "rate limit"),
        ((502, {"error": "bad gateway"}), "bad gateway"),
        ((504, {"error": "gateway timeout"}), "timeout"),
        ((524, {"error": "a timeout occurred"}), "bad gateway"),
        ((500, {"error": "model requires more system memory (9 GiB) than is available"}), "out of memory"),
        ((520, {"error": "unknown"}), "bad gateway"),
        ((500, {"error": "something new"}), "server error"),
        (_broken, "connection"),
        (_half, "cut off"),
        (_late, "timeout"),
        (_no_json, "cut off"),
        (GOOD | {"done": False}, "unfinished"),
    ],
)
@pytest.mark.asyncio
async def test_a_transient_error_has_a_kind(failure: Any, kind: str) -> None:
    model = await opened(Server(failure))
    with pytest.raises(TransientError) as error:
        await model.answer(QUESTION)
    assert error.value.kind == kind
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("message", RUNNER_DIED)
@pytest.mark.asyncio
async def test_the_crash_of_a_runner_is_transient(message: str) -> None:
    model = await opened(Server((500, {"error": message})))
    with pytest.raises(TransientError) as error:
        await model.answer(QUESTION)
    assert error.value.kind == "runner died"


@pytest.mark.parametrize(
    ("status", "message", "advice"),
    [
        (400, "no such thing", ""),
        (401, "no such thing", "OLLAMA_API_KEY"),
        (403, "no such thing", "OLLAMA_API_KEY"),
        (404, "no such thing", "ollama pull m"),
        (500, "invalid JSON schema in format", ""),
        (500, "llama runner process has terminated: error loading model: unknown model architecture", ""),
        (501, "no such thing", ""),
    ],
)
@pytest.mark.asyncio
async def test_a_permanent_error_says_what_to_do(status: int, message: str, advice: str) -> None:
    model = await opened(Server((status, {"error": message})))
    with pytest.raises(ModelError, match=f"status {status}: {message}") as error:
        await model.answer(QUESTION)
    assert not isinstance(error.value, TransientError)
    assert advice in str(error.value)


@pytest.mark.asyncio
async def test_a_used_up_quota_is_permanent_and_quotes_the_server() -> None:
    words = "you (m) have reached your weekly usage limit, upgrade for higher limits"
    model = await opened(Server((429, {"error": words})))
    with pytest.raises(ModelUnavailable, match=r"you .m. have reached your weekly usage limit.* are kept"):
        await model.answer(QUESTION)


@pytest.mark.asyncio
async def test_a_prompt_that_does_not_fit_has_its_own_error_type() -> None:
    server = Server((400, {"error": "the input length exceeds the context length"}))
    with pytest.raises(ContextLengthExceeded):
        await (await opened(server)).answer(QUESTION)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [(401, SelectorUnavailable, "OLLAMA_API_KEY"), (503, HostUnreachable, "status 503: try again")],
)
@pytest.mark.asyncio
async def test_a_server_that_reports_no_version_is_an_error(status: int, error: type[Exception], message: str) -> None:
    app = Starlette(routes=[Route("/api/version", lambda _: JSONResponse({"error": "no"}, status))])
    with pytest.raises(error, match=message):
        await open_app(app)


@pytest.mark.asyncio
async def test_errors_hide_the_password_of_a_host() -> None:
    with pytest.raises(SelectorUnavailable) as error:
        await open_ollama("m", host="http://user:hunter2@host:port", keys=ApiKeys())
    assert "hunter2" not in str(error.value)


@pytest.mark.asyncio
async def test_an_unknown_model_names_the_exact_command() -> None:
    with pytest.raises(SelectorUnavailable, match=r"has no model 'gemma2:27b'\. Get it with: ollama pull gemma2:27b$"):
        await opened(Server(GOOD), name="gemma2:27b")


@pytest.mark.asyncio
async def test_a_host_that_does_not_answer_is_named() -> None:
    with pytest.raises(SelectorUnavailable, match=r"no Ollama server answers at http://127.0.0.1:9\."):
        await open_model("ollama:m", RankingSettings(hosts=("http://127.0.0.1:9",)), ApiKeys())


@pytest.mark.asyncio
async def test_a_server_of_another_kind_is_recognised() -> None:
    app = Starlette(routes=[Route("/api/version", lambda _: Response("<html>", 200))])
    with pytest.raises(SelectorUnavailable, match="does not answer as Ollama does"):
        await open_app(app)


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
async def test_the_key_is_sent_only_to_its_own_host(
    host: str | None, named: str | None, sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    if named:
        monkeypatch.setenv("OLLAMA_HOST", named)
    server = Server(GOOD)
    await (await opened(server, host=host)).answer(QUESTION)
    assert {"authorization" in headers for headers in server.headers} == {sees}


@pytest.mark.parametrize(("status", "seconds"), [(429, 7.0), (503, 7.0)])
@pytest.mark.asyncio
async def test_the_error_holds_the_requested_pause(status: int, seconds: float) -> None:
    async def refuse() -> Response:
        return JSONResponse({"error": "busy"}, status, {"retry-after": "7"})

    server = Server(refuse)
    with pytest.raises(TransientError) as raised:
        await (await opened(server)).answer(QUESTION)
    assert raised.value.retry_after == seconds
    server.replies = [(503, {"error": "busy"})]
    with pytest.raises(TransientError) as raised:
        await (await opened(server)).answer(QUESTION)
    assert raised.value.retry_after is None


@pytest.mark.asyncio
async def test_the_host_comes_from_the_keys_and_never_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://other.example")
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    server = Server(GOOD)
    with in_process(server.app):
        await open_ollama("m", keys=ApiKeys())
        await open_ollama("m", keys=ApiKeys(ollama=ProviderKey("own", "http://mine.example:1")))
    assert [headers["host"] for headers in server.headers] == ["127.0.0.1:11434", "mine.example:1"]
    assert [headers.get("authorization") for headers in server.headers] == [None, "Bearer own"]


KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    "reply",
    [
        (400, {"error": f"no {KEY}"}),
        (401, {"error": f"{'x' * 190} {KEY}"}),
        (429, {"error": f"busy {KEY}"}),
        (400, {"error": f"context length {KEY}"}),
        (500, {"error": f"out of memory {KEY}"}),
        {"done": KEY},
    ],
)
@pytest.mark.asyncio
async def test_no_message_contains_the_key(reply: Any) -> None:
    with in_process(Server(reply).app):
        model = await open_ollama("m", keys=ApiKeys(ollama=ProviderKey(KEY, "http://model.example")))
    with pytest.raises(ModelError) as raised:
        await model.answer(QUESTION)
    assert KEY[:8] not in str(raised.value)


@pytest.mark.asyncio
async def test_no_message_of_the_check_contains_the_key() -> None:
    app = Starlette(routes=[Route("/api/version", lambda _: JSONResponse({"error": f"no {KEY}"}, 400))])
    with in_process(app), pytest.raises(SelectorUnavailable) as raised:
        await open_ollama("m", keys=ApiKeys(ollama=ProviderKey(KEY, "http://model.example")))
    assert KEY[:8] not in str(raised.value)


@pytest.mark.asyncio
async def test_a_reply_that_repeats_the_key_is_kept_without_it() -> None:
    message = {"role": "assistant", "content": f"[1] {KEY}", "thinking": KEY}
    with in_process(Server(GOOD | {"message": message}).app):
        model = await open_ollama("m", keys=ApiKeys(ollama=ProviderKey(KEY, "http://model.example")))
        reply = await model.answer(QUESTION)
    assert (reply.text, reply.thinking) == ("[1] ***", "***")
