"""Servers of both providers that record the keys they receive."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from selectllm.llm.keys import Provider
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.llm.openai_server import serve
from tests.llm.test_openai_run import completion, listing


@dataclass
class Server:
    """A server: the selector of its model, the Authorization headers of its requests, and how to end it."""

    host: str
    selector: str
    keys: Counter[str]
    end: Callable[[], None]


@contextmanager
def ollama_server() -> Iterator[Server]:
    with FaultyOllama() as server:
        yield Server(server.host, f"ollama:{server.model}", server.keys, server.pause)


@contextmanager
def openai_server() -> Iterator[Server]:
    app = Starlette(routes=[Route("/v1/models", listing), Route("/v1/chat/completions", completion, methods=["POST"])])
    keys: Counter[str] = Counter()

    async def with_note(scope: Scope, receive: Receive, send: Send) -> None:
        keys[dict(scope["headers"]).get(b"authorization", b"").decode()] += 1
        await app(scope, receive, send)

    with ExitStack() as stack:
        yield Server(stack.enter_context(serve(with_note)), "openai:m", keys, stack.close)


SERVERS: dict[Provider, Callable[[], AbstractContextManager[Server]]] = {
    "ollama": ollama_server,
    "openai": openai_server,
}
VARIABLES: dict[Provider, tuple[str, str]] = {
    "ollama": ("OLLAMA_API_KEY", "OLLAMA_HOST"),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
}
"""The environment's variables of a provider's key and host."""
