"""Servers of either kind that note the keys that they are sent."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tests.test_openai_run import completion, listing

from selectllm.testing.faulty_ollama import FaultyOllama


@dataclass
class Server:
    """A server, the selector of its model, what came under Authorization, and how to end it."""

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

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        keys[dict(scope["headers"]).get(b"authorization", b"").decode()] += 1
        await app(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(noting, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)

    def end() -> None:
        server.should_exit = True
        thread.join(10)

    yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "openai:m", keys, end)
    end()


SERVERS = {"ollama": ollama_server, "openai": openai_server}
