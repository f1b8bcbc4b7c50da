"""An app that speaks OpenAI's API and fails on demand, and a model that is connected to it without a network."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette import requests
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Mode, Request
from selectllm.llm.openai import OpenAIModel, open_openai
from tests.llm.in_process import in_process

HOST = "http://model.example/v1"
KEY = "sk-very-secret-0123456789"
SCHEMA = {"type": "object", "properties": {"ranking": {"type": "array"}}}
QUESTION = Request("Which two are best?", SCHEMA, max_tokens=48, seed=3)
CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": '{"ranking": [2, 1]}'},
    "finish_reason": "stop",
    "logprobs": None,
}
GOOD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_767_225_600,
    "model": "m",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 321, "completion_tokens": 9, "total_tokens": 330},
}
LISTED: dict[str, Any] = {
    "object": "list",
    "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "tests"}],
}


def error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | fields}


async def hang() -> Response:
    """A reply that does not come."""
    await asyncio.sleep(60)
    return Response()


class Server:
    """An app that lists one model and answers chats with given replies, in order, and raw completions with others."""

    def __init__(self, *replies: Any, models: Any = LISTED, continuations: Sequence[Any] = ()) -> None:
        self.replies = list(replies or [GOOD])
        self.continuations = list(continuations or [(404, error("Not Found"))])
        self.continued: list[dict[str, Any]] = []
        self.models = models
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.app = Starlette(
            routes=[
                Route("/v1/models", self.listing),
                Route("/v1/chat/completions", self.reply, methods=["POST"]),
                Route("/v1/completions", self.continuation, methods=["POST"]),
            ]
        )

    async def listing(self, request: requests.Request) -> Response:
        self.headers.append(dict(request.headers))
        return await self._respond(self.models)

    async def reply(self, request: requests.Request) -> Response:
        self.seen.append(json.loads(await request.body()))
        self.headers.append(dict(request.headers))
        return await self._respond(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])

    async def continuation(self, request: requests.Request) -> Response:
        self.continued.append(json.loads(await request.body()))
        return await self._respond(self.continuations.pop(0) if len(self.continuations) > 1 else self.continuations[0])

    async def _respond(self, reply: Any) -> Response:
        if isinstance(reply, Response):
            return reply
        if callable(reply):
            return await reply()  # type: ignore[no-any-return]
        status, body = reply if isinstance(reply, tuple) else (200, reply)
        return JSONResponse(body, status)


class RankingServer(Server):
    """Ranks the candidates shown, the longest first, or gives the same numbers to every question.

    It reads `cut_at` tokens of a prompt and does not say so, keeps to those of the `limits` that it knows, and shows
    the log-probabilities of yes and no.
    """

    def __init__(
        self,
        *,
        cut_at: int = 2**31,
        limits: tuple[str, ...] = ("max_completion_tokens", "max_tokens"),
        is_constant: bool = False,
        models: Any = LISTED,
    ) -> None:
        super().__init__(models=models)
        self._cut_at, self._limits, self._is_constant = cut_at, limits, is_constant

    async def reply(self, request: requests.Request) -> Response:
        body = json.loads(await request.body())
        self.seen.append(body)
        return self.answer(body)

    def answer(self, body: dict[str, Any]) -> Response:
        """The answer to a request, however it came."""
        text = body["messages"][0]["content"]
        answer = [f"{number} " for number in range(1, 101)]
        if form := body.get("response_format"):
            lines = [json.loads(line) for line in text.split("\n") if line.startswith('{"number": ')]
            if not self._is_constant:
                lines.sort(key=lambda line: -len(line["instruction"]))
            count = form["json_schema"]["schema"]["properties"]["ranking"]["minItems"]
            answer = [json.dumps({"ranking": [line["number"] for line in lines[:count]]})]
        limits = [body[name] for name in self._limits if name in body]
        answer = answer[: min(limits, default=None)]
        usage = {"prompt_tokens": min(len(text) // 4 + 8, self._cut_at), "completion_tokens": len(answer)}
        choice = CHOICE | {"message": {"role": "assistant", "content": "".join(answer)}}
        if body.get("logprobs"):
            tops = [{"token": "yes", "logprob": -0.5}, {"token": "no", "logprob": -1.0}]
            choice |= {"logprobs": {"content": [tops[0] | {"top_logprobs": tops}]}}
        return JSONResponse(GOOD | {"choices": [choice], "usage": usage})


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an app on a port of this machine, from another thread; gives its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(10)


async def opened(
    server: Server, name: str = "m", host: str | None = HOST, timeout: float = 5.0, mode: Mode = "listwise"
) -> OpenAIModel:
    with in_process(server.app):
        return await open_openai(name, host=host, keys=ApiKeys.from_environment(), timeout=timeout, mode=mode)
