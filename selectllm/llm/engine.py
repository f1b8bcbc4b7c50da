"""The embedded engine: llama.cpp in this process, one model, one request at a time.

It refuses what it cannot do whole: a prompt is never cut, and a schema that cannot be held is an error. Parallel slots
were measured and never helped on a CPU, where they only share the same cores and split the cache of prompts.
"""

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from selectllm.errors import MissingDependency, SelectorUnavailable
from selectllm.llm.weights import context_trained, read_gguf

EMBED_TOKENS: Final = 2048  # a text to embed is evaluated in one batch, whose memory grows with its square
BLOCK: Final = 256  # llama.cpp rounds every context up to a multiple of this
OPTIONS: Final = ("temperature", "seed", "num_predict", "stop", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n")
PENALTIES: Final = ("repeat_penalty", "presence_penalty", "frequency_penalty")
LLAMA_NAMES: Final = {name: name for name in OPTIONS + PENALTIES} | {"num_predict": "n_predict"}


class EngineError(Exception):
    """The engine failed at a request that was in order."""


class RefusedError(EngineError):
    """The request cannot be carried out as it was made."""


class PromptTooLongError(RefusedError):
    """The prompt does not fit into the context; nothing of it was evaluated."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its natural-log probability before sampling; `top_logprobs` are the likeliest here, best first."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: "tuple[Token, ...]" = ()


@dataclass(frozen=True, slots=True)
class WorkItem:
    """What one step of generation adds to the text; `logprobs` is empty unless it was asked for."""

    text: str
    logprobs: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation; durations in nanoseconds, `cached_tokens` of the `prompt_tokens` were not evaluated."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    prompt_ns: int
    output_ns: int
    logprobs: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector of unit length for each text, and the tokens of all texts together."""

    vectors: list[list[float]]
    tokens: int


@dataclass(frozen=True, slots=True)
class Settings:
    """How to generate.

    Parameters: `options`, Ollama's by Ollama's names, those that are not about sampling without effect; `top_logprobs`,
    None for no log-probabilities, n for those of the text and of the n likeliest tokens at each place; `emit`, called
    with each piece in the calling thread: an exception from it ends the generation and is passed on.
    """

    options: Mapping[str, Any]
    top_logprobs: int | None = None
    emit: Callable[[WorkItem], None] | None = None


class Engine(Protocol):
    """What the embedded server needs of an engine. Its methods block, and any thread may call them.

    Errors: PromptTooLongError, RefusedError, EngineError.
    """

    @property
    def context_length(self) -> int:
        """The tokens that prompt and output share."""

    def chat(
        self, messages: Sequence[Mapping[str, str]], settings: Settings, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """Answer a conversation, written with the model's own template; with `schema`, in JSON that holds to it."""

    def complete(self, prompt: str, settings: Settings) -> Completion:
        """Continue a text as it stands, without a template."""

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts: the mean of the last layer over a text's tokens, scaled to unit length."""


class LlamaEngine:
    """The engine over llama.cpp; loads the weights at once, about a second for the demonstration model.

    `context` is in tokens. Errors: MissingDependency, SelectorUnavailable when the file cannot be loaded.
    """

    def __init__(self, path: Path, context: int = 4096) -> None:
        rounded = -(-context // BLOCK) * BLOCK
        self._context_length = min(rounded, context_trained(read_gguf(path)) or rounded)
        self._path = path
        self._lock = threading.Lock()
        self._server = _serve(path, self._context_length)
        self._embedder: Any = None

    @property
    def context_length(self) -> int:
        """The tokens that prompt and output share: as asked for, in whole blocks, at most what the model learned."""
        return self._context_length

    def chat(
        self, messages: Sequence[Mapping[str, str]], settings: Settings, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """Answer a conversation; see `Engine.chat`."""
        body: dict[str, Any] = {"messages": [dict(message) for message in messages]}
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
        if settings.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": max(settings.top_logprobs, 1)}
        return self._generate(self._server.handle_chat_completions, body, settings)

    # There is no schema for a raw prompt: llama.cpp drops one that it cannot read there, and answers with free text.
    def complete(self, prompt: str, settings: Settings) -> Completion:
        """Continue a text; see `Engine.complete`."""
        body: dict[str, Any] = {"prompt": prompt}
        if settings.top_logprobs is not None:
            body["n_probs"] = max(settings.top_logprobs, 1)
        return self._generate(self._server.handle_completions, body, settings)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts; see `Engine.embed`. The first call loads the weights a second time."""
        with self._lock:
            if self._embedder is None:
                self._embedder = _serve(self._path, min(self._context_length, EMBED_TOKENS), embedding=True)
            reply = self._embedder.handle_embeddings({"input": list(texts)})
        if "error" in reply:
            raise _error(reply["error"])
        rows = sorted(reply["data"], key=lambda row: int(row["index"]))
        return Embeddings([row["embedding"] for row in rows], int(reply["usage"]["prompt_tokens"]))

    def _generate(self, handle: Any, body: dict[str, Any], settings: Settings) -> Completion:
        pieces: list[WorkItem] = []
        finish: str | None = None
        last: dict[str, Any] = {}
        failure: Exception | None = None

        # llama.cpp calls this in our thread, and swallows what it raises: hence `failure`. True ends the generation.
        def on_chunk(chunk: dict[str, Any]) -> bool:
            nonlocal finish, last, failure
            try:
                if "error" in chunk:
                    raise _error(chunk["error"])
                last = chunk
                for choice in chunk["choices"]:
                    finish = choice["finish_reason"] or finish
                    piece = _piece(choice, settings.top_logprobs or 0)
                    if piece.text or piece.logprobs:
                        pieces.append(piece)
                        if settings.emit is not None:
                            settings.emit(piece)
            except Exception as error:
                failure = error
            return failure is not None

        body |= {LLAMA_NAMES[name]: value for name, value in settings.options.items() if name in LLAMA_NAMES}
        body |= {"cache_prompt": True, "stream": True, "stream_options": {"include_usage": True}}
        with self._lock:
            try:
                handle(body, on_chunk)
            except ValueError as error:  # a schema or a conversation that llama.cpp cannot read
                raise RefusedError(str(error)) from error
        if failure is not None:
            raise failure
        if "usage" not in last:
            raise EngineError("llama.cpp ended a generation without saying why")
        return Completion(
            text="".join(piece.text for piece in pieces),
            finish="length" if finish == "length" else "stop",
            prompt_tokens=int(last["usage"]["prompt_tokens"]),
            cached_tokens=int(last["timings"]["cache_n"]),
            output_tokens=int(last["usage"]["completion_tokens"]),
            prompt_ns=int(last["timings"]["prompt_ms"] * 1e6),
            output_ns=int(last["timings"]["predicted_ms"] * 1e6),
            logprobs=tuple(token for piece in pieces for token in piece.logprobs),
        )


def _serve(path: Path, context: int, *, embedding: bool = False) -> Any:
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
    params.enable_reasoning = 0  # thinking would be outside the schema, and the API says that the model cannot
    params.cache_ram_mib = 0  # the slot's own cache serves the common prefix; this one would keep up to 8 GiB more
    # Flash attention computes short batches otherwise than long ones: a prompt's scores would depend on how much of it
    # the request before has left in the cache. It is no faster on a CPU.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # xllamacpp always opens a port, and lets pages of any origin use it: keep it on loopback, behind a key that is
    # told to nobody.
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [secrets.token_urlsafe(32)]
    params.n_threads_http = 1
    params.ui = params.endpoint_slots = False
    if embedding:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_batch = params.n_ubatch = context
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise SelectorUnavailable(f"llama.cpp cannot load the model file {path}") from error
    # A server that is let go of before its loop has begun hangs for ever. One answer shows that it has begun.
    (server.handle_embeddings if embedding else server.handle_completions)(
        {"prompt": " ", "input": " ", "n_predict": 1}
    )
    return server


def _piece(choice: Mapping[str, Any], top: int) -> WorkItem:
    text = choice["text"] if "text" in choice else choice["delta"].get("content")
    logprobs = (choice.get("logprobs") or {}).get("content", ())
    return WorkItem(text or "", tuple(_token(entry, top) for entry in logprobs))


def _token(entry: Mapping[str, Any], top: int) -> Token:
    alternatives = tuple(_token(other, 0) for other in entry.get("top_logprobs", ())[:top])
    return Token(entry["token"], float(entry["logprob"]), tuple(entry["bytes"]), alternatives)


def _error(error: Mapping[str, Any]) -> EngineError:
    message = str(error["message"])
    # The second is how the embedding server says it, as an error of its own.
    if error["type"] == "exceed_context_size_error" or "too large to process" in message:
        return PromptTooLongError(f"the input length exceeds the context length: {message}")
    return RefusedError(message) if error["code"] == 400 else EngineError(message)
