"""The embedded server: Ollama's API over the engine in this process, so that one client serves both.

In process it is reached through `httpx.ASGITransport(app=create_app(...))`; by other programs, through
`python -m selectllm.llm.embedded`. The weights are loaded by the first request that needs them.
"""

import argparse
import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from selectllm.errors import SelectLLMError
from selectllm.llm.engine import (
    Completion,
    Embeddings,
    Engine,
    EngineError,
    LlamaEngine,
    RefusedError,
    Settings,
    Token,
    WorkItem,
)
from selectllm.llm.weights import demo_weights, file_sha256, read_gguf
from selectllm.llm.wire import (
    ChatRequest,
    EmbedRequest,
    GenerateRequest,
    Generation,
    Named,
    counters,
    details,
    tagged,
)

NEVER: Final = "9999-12-31T23:59:59Z"  # when the model will be unloaded

AnyRequest = TypeVar("AnyRequest", bound=Named)
Result = TypeVar("Result")
Ask = Callable[[Engine, Settings], Completion]
Event = dict[str, Any]


def create_app(path: Path, *, name: str, context: int = 4096, engine: Callable[[], Engine] | None = None) -> Starlette:
    """Return an ASGI app that serves the GGUF file `path` as the model `name`, in a context of `context` tokens.

    `engine` builds another engine in the place of llama.cpp. Errors: SelectorUnavailable when `path` is no GGUF file.
    """
    served = _Served(path, name, engine or partial(LlamaEngine, path, context))
    return Starlette(
        routes=[
            Route("/", _root),
            Route("/api/version", _version),
            Route("/api/tags", served.tags),
            Route("/api/ps", served.ps),
            Route("/api/show", served.show, methods=["POST"]),
            Route("/api/chat", served.chat, methods=["POST"]),
            Route("/api/generate", served.generate, methods=["POST"]),
            Route("/api/embed", served.embed, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _say, EngineError: _say, SelectLLMError: _say},
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """The end of a generation; `load_ns` is how long it waited for the weights."""

    completion: Completion
    load_ns: int


class _AbandonedError(Exception):
    """Nobody waits for the answer any more."""


class _Served:
    """One model, and the one thread that its engine is built and used in: that thread's queue is the server's."""

    def __init__(self, path: Path, name: str, build: Callable[[], Engine]) -> None:
        self._path = path
        self._name = tagged(name)
        self._header = read_gguf(path)
        self._build = build
        self._engine: Engine | None = None
        self._digest = ""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded")

    async def tags(self, request: Request) -> Response:
        """List the one model."""
        return JSONResponse({"models": [await self._summary() | {"modified_at": self._modified_at()}]})

    async def ps(self, request: Request) -> Response:
        """List the model once it is loaded, with the context that it really has."""
        if self._engine is None:
            return JSONResponse({"models": []})
        loaded = {"expires_at": NEVER, "size_vram": 0, "context_length": self._engine.context_length}
        return JSONResponse({"models": [await self._summary() | loaded]})

    async def show(self, request: Request) -> Response:
        """Describe the model by what its file says."""
        await self._read(request, Named)
        return JSONResponse(
            {
                "details": details(self._header),
                "model_info": self._header,
                "capabilities": ["completion"],
                "modified_at": self._modified_at(),
            }
        )

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        body = await self._read(request, ChatRequest)
        turns = body.turns()

        def ask(engine: Engine, settings: Settings) -> Completion:
            return engine.chat(turns, settings, body.json_schema)

        def said(text: str) -> Event:
            return {"message": {"role": "assistant", "content": text}}

        return await self._answer(body, ask if turns else None, said)

    async def generate(self, request: Request) -> Response:
        """Answer a prompt, or continue it as it stands when it is raw."""
        body = await self._read(request, GenerateRequest)
        prompt = body.prompt or ""

        def ask(engine: Engine, settings: Settings) -> Completion:
            if body.raw:
                return engine.complete(prompt, settings)
            return engine.chat(body.turns(), settings, body.json_schema)

        def said(text: str) -> Event:
            return {"response": text}

        return await self._answer(body, ask if prompt else None, said)

    async def embed(self, request: Request) -> Response:
        """Embed one text or many."""
        body = await self._read(request, EmbedRequest)
        texts = body.texts()
        started = time.perf_counter_ns()
        found, load_ns = await self._run(lambda engine: engine.embed(texts) if texts else Embeddings([], 0))
        return JSONResponse(
            {
                "model": body.model,
                "embeddings": found.vectors,
                "total_duration": time.perf_counter_ns() - started,
                "load_duration": load_ns,
                "prompt_eval_count": found.tokens,
            }
        )

    async def _read(self, request: Request, kind: type[AnyRequest]) -> AnyRequest:
        try:
            body = kind.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors()[0]
            raise HTTPException(400, ": ".join([*map(str, first["loc"]), first["msg"]])) from None
        if tagged(body.model) != self._name:
            raise HTTPException(404, f"model '{body.model}' not found")
        if what := body.unsupported():
            raise HTTPException(400, f'"{body.model}" does not support {what}')
        return body

    async def _answer(self, body: Generation, ask: Ask | None, said: Callable[[str], Event]) -> Response:
        """Answer with a stream of events, or with one event that has everything; without `ask`, load the model."""
        started = time.perf_counter_ns()

        def event(text: str, logprobs: Sequence[Token], done: bool, **fields: Any) -> Event:
            stamp = {"model": body.model, "created_at": datetime.now(UTC).isoformat(), **said(text), "done": done}
            return stamp | fields | ({"logprobs": [asdict(token) for token in logprobs]} if logprobs else {})

        def last(end: _Done, text: str = "", logprobs: Sequence[Token] = ()) -> Event:
            took = {"total_duration": time.perf_counter_ns() - started, "load_duration": end.load_ns}
            return event(text, logprobs, done=True, **took, **counters(end.completion))

        if ask is None:
            await self._run(lambda engine: None)
            return JSONResponse(event("", (), done=True, done_reason="load"))
        steps = self._steps(body, ask)
        first = await anext(steps)  # what fails before the first token still has a status of its own
        if body.stream is False:
            end = first
            while isinstance(end, WorkItem):
                end = await anext(steps)
            return JSONResponse(last(end, end.completion.text, end.completion.logprobs))

        async def lines() -> AsyncIterator[str]:
            step = first
            async with aclosing(steps):
                try:
                    while isinstance(step, WorkItem):
                        yield json.dumps(event(step.text, step.logprobs, done=False)) + "\n"
                        step = await anext(steps)
                    yield json.dumps(last(step)) + "\n"
                except EngineError as error:
                    yield json.dumps({"error": str(error)}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def _steps(self, body: Generation, ask: Ask) -> AsyncGenerator[WorkItem | _Done, None]:
        """Yield each piece as it is written, then the end; whoever closes this ends the generation too."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[WorkItem | None] = asyncio.Queue()
        abandoned = threading.Event()

        def emit(piece: WorkItem) -> None:
            if abandoned.is_set():
                raise _AbandonedError
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        options = body.options.given() if body.options else {}
        settings = Settings(options, (body.top_logprobs or 0) if body.logprobs else None, emit)
        end = loop.run_in_executor(self._thread, self._turn, lambda engine: ask(engine, settings))
        end.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield _Done(*await end)
        finally:
            abandoned.set()
            end.cancel()  # takes it out of the queue when its turn has not come

    async def _run(self, work: Callable[[Engine], Result]) -> tuple[Result, int]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._turn, work)

    def _turn(self, work: Callable[[Engine], Result]) -> tuple[Result, int]:
        """Do some work in the engine's thread; return what it gave, and the nanoseconds that it waited for weights."""
        started = time.perf_counter_ns()
        if self._engine is None:
            self._engine = self._build()
        load_ns = time.perf_counter_ns() - started
        return work(self._engine), load_ns

    async def _summary(self) -> Event:
        if not self._digest:
            self._digest = await asyncio.to_thread(file_sha256, self._path)
        size = self._path.stat().st_size
        return {
            "name": self._name,
            "model": self._name,
            "size": size,
            "digest": self._digest,
            "details": details(self._header),
        }

    def _modified_at(self) -> str:
        return datetime.fromtimestamp(self._path.stat().st_mtime, UTC).isoformat()


async def _root(request: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(request: Request) -> Response:
    try:
        return JSONResponse({"version": f"embedded-{version('xllamacpp')}"})
    except PackageNotFoundError:  # another engine was handed in
        return JSONResponse({"version": "embedded"})


async def _say(request: Request, error: Exception) -> Response:
    """Answer an error in Ollama's form."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
    return JSONResponse({"error": str(error)}, 400 if isinstance(error, RefusedError) else 500)


def main() -> None:
    """Serve a model to the programs of this machine."""
    parser = argparse.ArgumentParser(prog="python -m selectllm.llm.embedded", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; Ollama's own is 11434")
    parser.add_argument("--model", type=Path, metavar="PATH.gguf", help="default: the demonstration model")
    parser.add_argument("--name", help="the model's name (default: the name of its file)")
    parser.add_argument("--context", type=int, default=4096, help="tokens of context (default: %(default)s)")
    arguments = parser.parse_args()
    import uvicorn

    try:
        path = arguments.model or demo_weights()
        app = create_app(path, name=arguments.name or path.stem, context=arguments.context)
    except SelectLLMError as error:
        parser.error(str(error))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
