"""A model in this process: llama.cpp over a GGUF file, without a server of our own.

A prompt is never cut, and a schema that cannot be held is an error. One thread asks, one question at a time: parallel
slots were measured and never helped on a CPU, where they share the same cores and split the cache of prompts.
"""

import asyncio
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from selectllm.errors import ContextLengthExceeded, MissingDependency, ModelError, SelectorUnavailable, TransientError
from selectllm.llm.model import Mode, ModelInfo, Reply, Request
from selectllm.llm.weights import demo_weights, file_sha256, read_gguf

# At most: a query of 14 candidates of 2,000 characters fits. A multiple of 256, as llama.cpp's contexts are.
CONTEXT_TOKENS: Final = 16_384
# As many as there are cores. On cores that others use too, a thread that waits for another slows both down.
THREADS: Final = -1


async def open_embedded(weights: str = "", *, mode: Mode | None = None) -> "EmbeddedModel":
    """Open a GGUF file, or the demo model when no file is named.

    The demo model ranks pointwise unless `mode` says otherwise: it is too small to rank a list.
    Raises SelectorUnavailable when the file is missing or is no GGUF file, MissingDependency without the engine.
    """
    path = Path(weights).expanduser() if weights else demo_weights()
    if not path.is_file():
        raise SelectorUnavailable(f"there is no model file {weights!r}: give the path of a GGUF file")
    header = read_gguf(path)
    trained = int(header.get(f"{header['general.architecture']}.context_length") or CONTEXT_TOKENS)
    try:
        engine_version = version("xllamacpp")
    except PackageNotFoundError:
        raise MissingDependency("xllamacpp", extra="embedded", purpose="the embedded engine") from None
    info = ModelInfo(
        selector=f"embedded:{weights}" if weights else "embedded",
        name=path.stem if ":" in path.stem else f"{path.stem}:latest",
        digest=await asyncio.to_thread(file_sha256, path),
        server_version=f"embedded-{engine_version}",
        kind="model" if weights else "demo",
        mode=mode or ("listwise" if weights else "pointwise"),
    )
    return EmbeddedModel(path, info, min(CONTEXT_TOKENS, trained))


@dataclass
class _Generation:
    """What llama.cpp has written of one answer so far."""

    abandoned: threading.Event
    text: str = ""
    finish: str = ""
    last: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None

    def on_chunk(self, chunk: dict[str, Any]) -> bool:
        """Add a chunk; return whether to end the generation. It must not raise: llama.cpp ignores exceptions here."""
        if "error" in chunk:
            self.error = chunk["error"]
            return True
        self.last = chunk
        for choice in chunk.get("choices", ()):
            self.finish = choice.get("finish_reason") or self.finish
            self.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            tokens = (choice.get("logprobs") or {}).get("content")
            if tokens and not self.logprobs:
                self.logprobs = {token["token"]: token["logprob"] for token in tokens[0].get("top_logprobs", ())}
        return self.abandoned.is_set()


class EmbeddedModel:
    """One model of a GGUF file. `prepare` loads the weights, which takes about a second for the demo model."""

    host = "this process"

    def __init__(self, path: Path, info: ModelInfo, context: int) -> None:
        self.info, self._path, self._n_ctx = info, path, context
        self.context: int | None = context
        self._server: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded")

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Load the weights. Raises SelectorUnavailable when they cannot be loaded, MissingDependency."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._loaded)

    async def answer(self, request: Request) -> Reply:
        """Answer one request; cancelling it ends its generation, so that the next request can begin."""
        abandoned = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._generate, request, abandoned)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def probe(self) -> None:
        """A model in this process always answers."""

    async def verify(self) -> None:
        """Nothing can change what is in this process."""

    async def close(self) -> None:
        """Release the weights, after the generation that is still under way."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._server = None

    def _loaded(self) -> Any:
        self._server = self._server or _load(self._path, self._n_ctx)
        return self._server

    def _generate(self, request: Request, abandoned: threading.Event) -> Reply:
        name, began = self.info.name, time.perf_counter_ns()
        if request.think and not request.logprobs:
            raise ModelError(f"{name} refused a request: embedded models do not think before they answer")
        server = self._loaded()
        loaded, generation = time.perf_counter_ns(), _Generation(abandoned)
        handle = server.handle_completions if request.logprobs else server.handle_chat_completions
        try:
            handle(_body(request), generation.on_chunk)
        except ValueError as error:  # llama.cpp cannot read the schema or the conversation
            raise ModelError(f"{name} refused a request: {error}") from error
        if generation.error is not None:
            raise _error(name, generation.error)
        usage, timings = generation.last.get("usage"), generation.last.get("timings")
        if usage is None or timings is None:
            raise TransientError(f"{name} broke an answer off", "unfinished")
        prompt_tokens, is_full = int(usage["prompt_tokens"]), generation.finish == "length"
        if is_full and prompt_tokens + request.max_tokens > self._n_ctx:
            counted = f"{name} counted {prompt_tokens:,} tokens in a prompt"
            raise ContextLengthExceeded(f"{counted}: with its answer that is more than its context of {self._n_ctx:,}")
        return Reply(
            text=generation.text,
            done_reason="length" if is_full else "stop",
            prompt_tokens=prompt_tokens,
            output_tokens=int(usage["completion_tokens"]),
            total_duration=time.perf_counter_ns() - began,
            load_duration=loaded - began,
            prompt_duration=int(timings["prompt_ms"] * 1e6),
            output_duration=int(timings["predicted_ms"] * 1e6),
            logprobs=generation.logprobs,
        )


def _body(request: Request) -> dict[str, Any]:
    """What llama.cpp is sent: a text to continue as it stands, or a chat, held to the request's schema if any."""
    body: dict[str, Any] = {"temperature": request.temperature, "seed": request.seed}
    body["n_predict"] = request.max_tokens
    body |= {"cache_prompt": True, "stream": True, "stream_options": {"include_usage": True}}
    body["return_progress"] = True  # a chunk for each 2,048 tokens read, after which an abandoned prompt ends
    if request.logprobs:
        return body | {"prompt": request.text, "n_probs": 20}
    if request.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": request.schema}}
    return body | {"messages": request.messages}


def _load(path: Path, context: int) -> Any:
    """Load the weights into one of xllamacpp's servers, an untyped object."""
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingDependency("xllamacpp", extra="embedded", purpose="the embedded engine") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.verbosity = context, 1, -1
    params.ctx_shift = params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.enable_reasoning = 0  # thinking would be outside the schema
    params.cache_ram_mib = 0  # the slot's own cache serves the common prefix; this one would keep up to 8 GiB more
    params.swa_full = True  # else models with sliding windows, such as Gemma's, do not reuse the common prefix
    # Flash attention computes short batches otherwise than long ones: a prompt's scores would depend on how much of it
    # the request before has left in the cache. It is no faster on a CPU.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # xllamacpp always opens a port, and lets pages of any origin use it: keep it on loopback, behind a secret key.
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys, params.n_threads_http = [secrets.token_urlsafe(32)], 1
    params.ui = params.endpoint_slots = False
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise SelectorUnavailable(f"llama.cpp cannot load the model file {path}") from error
    # A server that is released before its loop has begun hangs for ever. An answer shows that the loop has begun.
    server.handle_completions({"prompt": " ", "n_predict": 1})
    return server


def _error(name: str, error: dict[str, Any]) -> ModelError:
    message = str(error.get("message"))
    if error.get("type") == "exceed_context_size_error":
        return ContextLengthExceeded(f"{name} refused a prompt: {message}")
    if error.get("code") == 400:
        return ModelError(f"{name} refused a request: {message}")
    return TransientError(f"{name} failed: {message}", "server error")
