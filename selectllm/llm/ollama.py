"""Models hosted by Ollama, asked through its official client. Its traps are explained where they matter."""

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx
from httpx import HTTPStatusError
from ollama import AsyncClient, ChatResponse, GenerateResponse, ResponseError

from selectllm.errors import ContextLengthExceeded, HostUnreachable, ModelError, SelectorUnavailable, TransientError
from selectllm.llm.backoff import retry_after_seconds
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Mode, ModelInfo, Reply, Request
from selectllm.paths import redact_url
from selectllm.text import sanitize

OLLAMA: Final = "http://127.0.0.1:11434"

CHECK_SECONDS: Final = 30.0
"""Seconds that a server has to say which models it has."""

PASSING_STATUSES: Final = {-1: "cut off", 408: "timeout", 429: "busy", 502: "bad gateway", 503: "busy", 504: "timeout"}
"""Statuses of errors that can pass; -1 is what the client makes of an error within a stream."""

PROXY_STATUSES: Final = 520
"""From here on statuses are those of proxies, and say that what is wrong is between us and the server."""

PASSING_ERRORS: Final = ("unexpectedly stopped", "timed out waiting", "llama-server process")
"""What a 500 says when the runner behind the server died and will be started again."""

OUT_OF_MEMORY: Final = ("out of memory", "requires more system memory")
"""What a 500 says when the model did not fit beside others. Retryable: Ollama unloads idle models."""

CUT: Final = 2
"""Tokens on either side of half the context and two: what a server leaves of a prompt that it cuts silently."""

TWICE: Final = 1.5
"""A prompt of which half was cut away seems to have twice the bytes per token, more or less."""

BYTES_PER_TOKEN: Final = 2.5
"""Of UTF-8; low for most text, so that the context is rather too large than too small."""

SPARE_TOKENS: Final = 512
"""For what the model's template adds to a prompt, and more: contexts are cheap beside loading a model anew."""

MOST_BYTES_PER_TOKEN: Final = 8.0
"""No tokenizer does better over a whole prompt: a prompt that was counted as fewer tokens was not read whole."""

OBSERVED: Final = 8
"""Replies after which the model's own bytes per token are known well enough to reckon with."""

KEY_ADVICE: Final = (
    "Set OLLAMA_API_KEY to a key that is good there, and OLLAMA_HOST to that URL: --host alone sends none"
)


class WireClient(AsyncClient):
    """The official client, sending two fields that it does not offer: a prompt too long is an error, never cut."""

    async def _request(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        if args[1] in ("/api/chat", "/api/generate"):
            kwargs["json"] |= {"truncate": False, "shift": False}
        return await super()._request(cls, *args, **kwargs)

    async def version(self) -> str:
        """The server's version."""
        answer = await self._client.get("/api/version")
        answer.raise_for_status()
        return str(answer.json()["version"])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class OllamaModel:
    """One model of one Ollama server."""

    def __init__(self, client: WireClient, info: ModelInfo, longest_context: int | None) -> None:
        self.info = info
        self._client = client
        self._longest_context = longest_context
        self.context: int | None = None
        self._most_bytes_per_token = 0.0
        self._bytes, self._tokens, self._replies = 0, 0, 0  # of all prompts that were read whole

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Fix the context for the run, load the model with it, and read what context it really got.

        A request that asked for another context would make the server load the model anew.
        """
        most = self._longest_context or math.inf
        wanted = 1024 * math.ceil((longest / BYTES_PER_TOKEN + SPARE_TOKENS + max_tokens) / 1024)
        self.context = int(min(wanted, most))
        with self._errors_translated():
            await self._client.chat(self.info.name, [], options={"num_ctx": self.context})
            running = (await self._client.ps()).models
        contexts = [model.context_length for model in running if model.digest == self.info.digest]
        self.context = min([self.context, *filter(None, contexts)])

    async def answer(self, request: Request) -> Reply:
        """Ask once, and check that the prompt was read whole and that the answer ended."""
        size = len(request.text.encode())
        bytes_per_token = self._most_bytes_per_token if self._replies >= OBSERVED else MOST_BYTES_PER_TOKEN
        if self.context and size / bytes_per_token + request.max_tokens > self.context:
            raise ContextLengthExceeded(
                f"{size:,} bytes do not fit the {self.context:,} tokens that {self.info.name} reads"
            )
        options = {"temperature": 0, "seed": request.seed, "num_predict": request.max_tokens}
        if self.context:
            options["num_ctx"] = self.context
        with self._errors_translated():
            if request.logprobs:
                completion = await self._client.generate(
                    self.info.name, request.text, raw=True, logprobs=True, top_logprobs=20, options=options
                )
                reply = _reply(completion, completion.response or "")
            else:
                chat = await self._client.chat(
                    self.info.name,
                    [{"role": "user", "content": request.text}],
                    format=request.schema,
                    options=options,
                    think=request.think,  # unsaid, a thinking model thinks, and the schema is not applied
                )
                reply = _reply(chat, chat.message.content or "", chat.message.thinking or "")
        self._check(reply, size, request.max_tokens)
        return reply

    async def probe(self) -> None:
        """Ask for the server's version."""
        with self._errors_translated():
            await self._client.version()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _check(self, reply: Reply, size: int, max_tokens: int) -> None:
        if reply.done_reason == "unfinished":
            raise TransientError(f"{self.info.name} broke an answer off", "unfinished")
        if not reply.prompt_tokens:  # not every server counts
            return
        counted = f"{self.info.name} counted {reply.prompt_tokens:,} tokens in a prompt of {size:,} bytes"
        if reply.done_reason != "stop" and self.context and reply.prompt_tokens + max_tokens > self.context:
            raise ContextLengthExceeded(
                f"{counted}: with its answer that is more than the {self.context:,} that it reads"
            )
        if self._was_cut(size, reply.prompt_tokens):
            raise TransientError(f"{counted}: it was cut", "low count")
        self._bytes += size
        self._tokens += reply.prompt_tokens
        self._replies += 1
        self._most_bytes_per_token = max(self._most_bytes_per_token, size / reply.prompt_tokens)

    def _was_cut(self, size: int, tokens: int) -> bool:
        """Whether a prompt of so many bytes was read as too few tokens to have been read whole."""
        ratio = size / tokens
        if ratio > MOST_BYTES_PER_TOKEN:
            return True
        # Never by a ratio alone: scripts differ threefold in it, and a pool may hold several.
        usual = self._bytes / self._tokens if self._replies >= OBSERVED else BYTES_PER_TOKEN
        half = (self.context or 0) // 2 + 2
        return abs(tokens - half) <= CUT and ratio > TWICE * usual

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """Turn what the client raises into our errors: those that can pass, and those that cannot."""
        try:
            yield
        except ResponseError as error:
            message, status = f"status {error.status_code}: {_message(error)}", error.status_code
            if status == 500 and any(sign in message for sign in PASSING_ERRORS):
                raise TransientError(f"{self.info.name} failed with {message}", "runner died") from None
            if status == 500 and any(sign in message for sign in OUT_OF_MEMORY):
                raise TransientError(f"{self.info.name} failed with {message}", "out of memory") from None
            if status in PASSING_STATUSES or status >= PROXY_STATUSES:
                kind = PASSING_STATUSES.get(status, "bad gateway")
                raise TransientError(f"{self.info.name} failed with {message}", kind, _retry_after(error)) from None
            if status == 400 and "context" in message:
                raise ContextLengthExceeded(f"{self.info.name} refused a prompt with {message}") from None
            advice = {
                401: "look at OLLAMA_API_KEY",
                403: "look at OLLAMA_API_KEY",
                404: f"ollama pull {self.info.name}",
            }
            then = f". To go on: {advice[status]}" if status in advice else ""
            raise ModelError(f"{self.info.name} refused a request with {message}{then}") from None
        except httpx.TimeoutException as error:
            raise TransientError(f"{self.info.name} did not answer: {type(error).__name__}", "timeout") from None
        except (httpx.RemoteProtocolError, ValueError) as error:  # half a body is no JSON
            raise TransientError(
                f"{self.info.name} was cut off: {' '.join(str(error).split())[:200]}", "cut off"
            ) from None
        except (ConnectionError, httpx.RequestError, HTTPStatusError, KeyError, TypeError) as error:
            raise TransientError(f"{self.info.name} cannot be reached: {type(error).__name__}", "connection") from None


async def open_ollama(
    name: str,
    *,
    host: str | None = None,
    keys: ApiKeys,
    timeout: float = 120.0,
    mode: Mode = "listwise",
) -> OllamaModel:
    """Open a model, after checking that the server answers and has it.

    Parameters: `host`, a URL, else the one that goes with the key, else Ollama's usual one; `timeout`, seconds of one
    request (the client's own default is to wait for ever).
    Raises SelectorUnavailable, with the command that would help.
    """
    client = _client(host, keys, timeout)
    where = str(client._client.base_url).rstrip("/")
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            version = await client.version()
            digests = {model.model: str(model.digest) for model in (await client.list()).models}
            known = name if name in digests else f"{name}:latest"
            if known not in digests:
                raise SelectorUnavailable(
                    f"the Ollama server at {where} has no model {name!r}. Get it with: ollama pull {name}"
                )
            details = (await client.show(known)).modelinfo or {}
    except BaseException as error:
        await client.close()
        raise _unavailable(error, where) from None
    info = ModelInfo(
        selector=f"ollama:{name}",
        name=known,
        digest=digests[known],
        server_version=version,
        kind="model",
        mode=mode,
    )
    return OllamaModel(client, info, details.get(f"{details.get('general.architecture')}.context_length"))


def _client(host: str | None, keys: ApiKeys, timeout: float) -> WireClient:
    asked = host or keys.host("ollama") or OLLAMA
    try:  # connections are as many as there are questions at once, and those are counted elsewhere
        client = WireClient(host=asked, timeout=timeout, limits=httpx.Limits(max_connections=None))
    except (ValueError, httpx.InvalidURL) as error:
        raise SelectorUnavailable(
            f"--host {redact_url(asked)!r} is no URL of a server: {redact_url(str(error))}"
        ) from None
    # The client takes OLLAMA_API_KEY from the environment for any host.
    client._client.headers.pop("authorization", None)
    if key := keys.for_host("ollama", host).key:
        client._client.headers["authorization"] = f"Bearer {key}"
    return client


def _unavailable(error: BaseException, where: str) -> BaseException:
    """What to raise for an error of the check: what can be said of it, else the error itself."""
    if isinstance(error, (ConnectionError, TimeoutError, httpx.TransportError)):
        return HostUnreachable(
            f"no Ollama server answers at {where}. Start it with `ollama serve`, or name another with --host URL"
        )
    status = error.status_code if isinstance(error, ResponseError) else 0
    status = error.response.status_code if isinstance(error, HTTPStatusError) else status
    if status in PASSING_STATUSES or status >= PROXY_STATUSES:
        return HostUnreachable(
            f"the Ollama server at {where} answers nothing but status {status}: try again when it is well"
        )
    if status in (401, 403):
        return SelectorUnavailable(f"the server at {where} refused to be asked with status {status}. {KEY_ADVICE}")
    if isinstance(error, (ResponseError, HTTPStatusError, ValueError, KeyError)):
        return SelectorUnavailable(f"the server at {where} does not answer as Ollama does: {_message(error)}")
    return error


def _reply(response: ChatResponse | GenerateResponse, text: str, thinking: str = "") -> Reply:
    alternatives = response.logprobs[0].top_logprobs if response.logprobs else None
    return Reply(
        text=text,
        thinking=thinking,
        done_reason=(response.done_reason or "stop") if response.done else "unfinished",
        prompt_tokens=response.prompt_eval_count or 0,
        output_tokens=response.eval_count or 0,
        total_duration=response.total_duration or 0,
        load_duration=response.load_duration or 0,
        prompt_duration=response.prompt_eval_duration or 0,
        output_duration=response.eval_duration or 0,
        logprobs={
            token.token: token.logprob
            for token in alternatives or []
            if token.token is not None and token.logprob is not None
        },
    )


def _retry_after(error: ResponseError) -> float | None:
    """What the server asks for with a refusal: the client's error does not say, but keeps what it was made from."""
    cause = error.__context__
    header = cause.response.headers.get("retry-after") if isinstance(cause, HTTPStatusError) else None
    return retry_after_seconds(header)


def _message(error: Exception) -> str:
    """What a server says, on one line and not too long: the client passes its JSON on as text."""
    text = getattr(error, "error", None) or str(error)
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]
    return sanitize(" ".join(str(text).split())[:200])
