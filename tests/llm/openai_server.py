"""An app that speaks OpenAI's API and fails on demand, and a model that is connected to it without a network."""

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Request
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


class Server:
    """An app that lists one model and answers chats with given replies, in order."""

    def __init__(self, *replies: Any, models: Any = LISTED) -> None:
        self.replies = list(replies or [GOOD])
        self.models = models
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.app = Starlette(
            routes=[
                Route("/v1/models", self.listing),
                Route("/v1/chat/completions", self.reply, methods=["POST"]),
            ]
        )

    async def listing(self, request: HttpRequest) -> Response:
        self.headers.append(dict(request.headers))
        return await self._respond(self.models)

    async def reply(self, request: HttpRequest) -> Response:
        self.seen.append(json.loads(await request.body()))
        self.headers.append(dict(request.headers))
        return await self._respond(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])

    async def _respond(self, reply: Any) -> Response:
        if isinstance(reply, Response):
            return reply
        if callable(reply):
            return await reply()  # type: ignore[no-any-return]
        status, body = reply if isinstance(reply, tuple) else (200, reply)
        return JSONResponse(body, status)


async def opened(server: Server, name: str = "m", host: str | None = HOST, timeout: float = 5.0) -> OpenAIModel:
    with in_process(server.app):
        return await open_openai(name, host=host, keys=ApiKeys.from_environment(), timeout=timeout)
