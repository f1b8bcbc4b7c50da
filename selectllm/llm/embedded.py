"""A model in this process: llama.cpp over a GGUF file, without a server of our own.

A prompt is never cut, and a schema that cannot be held is an error. Parallel slots were measured and never helped on a
CPU, where they only share the same cores and split the cache of prompts: one thread asks, one question at a time.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar

from selectllm.errors import ContextLengthExceeded, MissingDependency, ModelError, SelectorUnavailable, TransientError
from selectllm.llm.model import Mode, ModelInfo, Reply, Request
from selectllm.llm.weights import context_trained, demo_weights, file_sha256, read_gguf

CONTEXT_TOKENS: Final = 16_384
"""At most, where the model reads so many: a query of 14 candidates of 2,000 characters, with room to spare.

It is a multiple of 256, as llama.cpp's contexts are."""

TOP_LOGPROBS: Final = 20

THREADS: Final = -1
"""As many as there are cores. On cores that others use too, a thread that waits for another slows both down."""

T = TypeVar("T")


async def open_embedded(weights: str = "", *, mode: Mode | None = None) -> "EmbeddedModel":
    """Open a GGUF file, or the demo model when none is named.

    The demo model ranks pointwise unless `mode` says otherwise: it is too small to rank a list.
    Raises SelectorUnavailable when there is no such file, MissingDependency without the engine.
    """
    path = Path(weights).expanduser() if weights else demo_weights()
    if not path.is_file():
        raise SelectorUnavailable(f"there is no model file {weights!r}: give the path of a GGUF file")
    header = read_gguf(path)
    info = ModelInfo(
        selector=f"embedded:{weights}" if weights else "embedded",
        name=path.stem if ":" in path.stem else f"{path.stem}:latest",
        digest=await asyncio.to_thread(file_sha256, path),
        server_version=_engine_version(),
        kind="model" if weights else "demo",
        mode=mode or ("listwise" if weights else "pointwise"),
    )
    return EmbeddedModel(path, info, min(CONTEXT_TOKENS, context_trained(header) or CONTEXT_TOKENS))


@dataclass
class _Generation:
    """What llama.cpp has written of one answer."""

    is_abandoned: threading.Event
    text: str = ""
    finish: str = ""
    last: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None

    def add(self, chunk: dict[str, Any]) -> bool:
        """Take in a piece; True ends the generation. llama.cpp swallows what is raised here: nothing may be."""
        if "error" in chunk:
            self.error = chunk["error"]
            return True
        self.last = chunk
        for choice in chunk.get("choices", ()):
            self.finish = choice.get("finish_reason") or self.finish
            self.text += (choice["text"] if "text" in choice else choice["delta"].get("content")) or ""
            tokens = (choice.get("logprobs") or {}).get("content") or ()
            if tokens and not self.logprobs:
                self.logprobs = {token["token"]: token["logprob"] for token in tokens[0].get("top_logprobs", ())}
        return self.is_abandoned.is_set()


class EmbeddedModel:
    """One model of a GGUF file. The weights are loaded when it is prepared, about a second for the demo model."""

    def __init__(self, path: Path, info: ModelInfo, context: int) -> None:
        self.info = info
        self.context: int | None = context
        self._path = path
        self._server: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded")

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Load the weights."""
        await self._run(self._loaded)

    async def answer(self, request: Request) -> Reply:
        """Answer one request; cancelling it ends its generation."""
        abandoned = threading.Event()
        try:
            return await self._run(lambda: self._generate(request, abandoned))
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def probe(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """Release the weights."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._server = None

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _loaded(self) -> Any:
        if self._server is None:
            self._server = _load(self._path, self.context or CONTEXT_TOKENS)
        return self._server

    def _generate(self, request: Request, abandoned: threading.Event) -> Reply:
        loading, server = time.perf_counter_ns(), self._loaded()
        started = time.perf_counter_ns()
        generation = _Generation(abandoned)
        handle, body = _body(server, request)
        try:
            handle(body, generation.add)
        except ValueError as error:  # a schema or a conversation that llama.cpp cannot read
            raise ModelError(f"{self.info.name} refused a request: {error}") from error
        if generation.error is not None:
            raise _error(self.info.name, generation.error)
        usage, timings = generation.last.get("usage"), generation.last.get("timings")
        if usage is None or timings is None:
            raise TransientError(f"{self.info.name} broke an answer off", "unfinished")
        return Reply(
            text=generation.text,
            done_reason="length" if generation.finish == "length" else "stop",
            prompt_tokens=int(usage["prompt_tokens"]),
            output_tokens=int(usage["completion_tokens"]),
            total_duration=time.perf_counter_ns() - loading,
            load_duration=started - loading,
            prompt_duration=int(timings["prompt_ms"] * 1e6),
            output_duration=int(timings["predicted_ms"] * 1e6),
            logprobs=generation.logprobs,
        )


def _body(server: Any, request: Request) -> tuple[Any, dict[str, Any]]:
    """The function that answers, and its argument: a text to continue as it stands, or a chat held to a schema."""
    body: dict[str, Any] = {
        "temperature": 0,
        "seed": request.seed,
        "n_predict": request.max_tokens,
        "cache_prompt": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.logprobs:
        return server.handle_completions, body | {"prompt": request.text, "n_probs": TOP_LOGPROBS}
    form = {"type": "json_schema", "json_schema": {"schema": request.schema}}
    messages = [{"role": "user", "content": request.text}]
    return server.handle_chat_completions, body | {"messages": messages, "response_format": form}


def _load(path: Path, context: int) -> Any:
    """Load the weights into one of xllamacpp's servers (the package has no types)."""
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingDependency("xllamacpp", extra="embedded", purpose="the embedded engine") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context
    params.n_parallel = 1
    params.ctx_shift = False
    params.verbosity = -1
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.enable_reasoning = 0  # thinking would be outside the schema
    params.cache_ram_mib = 0  # the slot's own cache serves the common prefix; this one would keep up to 8 GiB more
    params.swa_full = True  # else models with sliding windows, such as Gemma's, do not reuse the common prefix
    # Flash attention computes short batches otherwise than long ones: a prompt's scores would depend on how much of it
    # the request before has left in the cache. It is no faster on a CPU.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # xllamacpp always opens a port, and lets pages of any origin use it: keep it on loopback, behind a secret key.
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [secrets.token_urlsafe(32)]
    params.n_threads_http = 1
    params.ui = params.endpoint_slots = False
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise SelectorUnavailable(f"llama.cpp cannot load the model file {path}") from error
    # A server that is released before its loop has begun hangs for ever. One answer shows that it has begun.
    server.handle_completions({"prompt": " ", "n_predict": 1})
    return server


def _engine_version() -> str:
    try:
        return f"embedded-{version('xllamacpp')}"
    except PackageNotFoundError:
        raise MissingDependency("xllamacpp", extra="embedded", purpose="the embedded engine") from None


def _error(name: str, error: dict[str, Any]) -> ModelError:
    message = str(error.get("message"))
    if error.get("type") == "exceed_context_size_error":
        return ContextLengthExceeded(f"{name} refused a prompt: {message}")
    if error.get("code") == 400:
        return ModelError(f"{name} refused a request: {message}")
    return TransientError(f"{name} failed: {message}", "server error")
