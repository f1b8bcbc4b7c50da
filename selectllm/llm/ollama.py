"""Models hosted by Ollama, asked through its official client. What is known of its traps is told where it matters."""

import asyncio
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx
from ollama import AsyncClient, ChatResponse, GenerateResponse, ResponseError

from selectllm.errors import ContextLengthExceeded, HostUnreachable, ModelError, SelectorUnavailable, TransientError
from selectllm.llm.model import Mode, ModelInfo, Quality, Reply, Request
from selectllm.paths import redact_url
from selectllm.text import sanitize

MEETING: Final = 30.0
"""Seconds that a server has to say who it is."""

PASSING_STATUSES: Final = {-1: "cut off", 408: "timeout", 429: "busy", 502: "bad gateway", 503: "busy", 504: "timeout"}
"""Answers that mean `not now`: -1 is what the client makes of an error within a stream."""

PROXY_STATUSES: Final = 520
"""From here on statuses are those of proxies, and say that what is wrong is between us and the server."""

PASSING_ERRORS: Final = ("unexpectedly stopped", "timed out waiting", "llama-server process")
"""What a 500 says when the runner behind the server died and will be started again."""

OUT_OF_MEMORY: Final = ("out of memory", "requires more system memory")
"""What a 500 says when the model did not fit beside others: by and by they are unloaded."""

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

KEY: Final = "Set OLLAMA_API_KEY to a key that is good there, and OLLAMA_HOST to that URL: --host alone sends none"

OLLAMA_CLOUD: Final = "https://ollama.com"


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

    def __init__(self, client: WireClient, card: ModelInfo, longest_context: int | None) -> None:
        self.card = card
        self._client = client
        self._longest_context = longest_context
        self.context: int | None = None
        self._most_bytes_per_token = 0.0
        self._bytes, self._tokens, self._replies = 0, 0, 0  # of all prompts that were read whole

    async def prepare(self, longest: int, room: int) -> None:
        """Fix the context for the run, load the model with it, and look what context it really got.

        A request that asked for another context would make the server load the model anew.
        """
        most = self._longest_context or math.inf
        wanted = 1024 * math.ceil((longest / BYTES_PER_TOKEN + SPARE_TOKENS + room) / 1024)
        self.context = int(min(wanted, most))
        with self._failures_told():
            await self._client.chat(self.card.name, [], options={"num_ctx": self.context})
            running = (await self._client.ps()).models
        given = [one.context_length for one in running if one.digest == self.card.digest and one.context_length]
        self.context = min([self.context, *given])

    async def answer(self, request: Request) -> Reply:
        """Ask once, and look whether the prompt was read whole and the answer ended."""
        prompt, size = request.prompt, len(request.prompt.text.encode())
        bytes_per_token = self._most_bytes_per_token if self._replies >= OBSERVED else MOST_BYTES_PER_TOKEN
        if self.context and size / bytes_per_token + request.num_predict > self.context:
            raise ContextLengthExceeded(
                f"{size:,} bytes do not fit the {self.context:,} tokens that {self.card.name} reads"
            )
        options = {"temperature": 0, "seed": request.seed, "num_predict": request.num_predict}
        if self.context:
            options["num_ctx"] = self.context
        with self._failures_told():
            if prompt.schema is None:
                found = await self._client.generate(
                    self.card.name, prompt.text, raw=True, logprobs=True, top_logprobs=20, options=options
                )
                reply = _reply(found, found.response or "")
            else:
                told = await self._client.chat(
                    self.card.name,
                    [{"role": "user", "content": prompt.text}],
                    format=prompt.schema,
                    options=options,
                    think=request.think,  # unsaid, a thinking model thinks, and the schema is not applied
                )
                reply = _reply(told, told.message.content or "", told.message.thinking or "")
        self._check(reply, size, request.num_predict)
        return reply

    async def probe(self) -> None:
        """Ask for the server's version."""
        with self._failures_told():
            await self._client.version()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _check(self, reply: Reply, size: int, num_predict: int) -> None:
        if reply.done_reason == "unfinished":
            raise TransientError(f"{self.card.name} broke an answer off", "unfinished")
        if not reply.prompt_tokens:  # not every server counts
            return
        counted = f"{self.card.name} counted {reply.prompt_tokens:,} tokens in a prompt of {size:,} bytes"
        if reply.done_reason != "stop" and self.context and reply.prompt_tokens + num_predict > self.context:
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
    def _failures_told(self) -> Iterator[None]:
        """Progress failures that can pass from those that cannot."""
        try:
            yield
        except ResponseError as error:
            fault, status = f"status {error.status_code}: {_said(error)}", error.status_code
            if status == 500 and any(sign in fault for sign in PASSING_ERRORS):
                raise TransientError(f"{self.card.name} failed with {fault}", "runner died") from None
            if status == 500 and any(sign in fault for sign in OUT_OF_MEMORY):
                raise TransientError(f"{self.card.name} failed with {fault}", "out of memory") from None
            if status in PASSING_STATUSES or status >= PROXY_STATUSES:
                kind = PASSING_STATUSES.get(status, "bad gateway")
                raise TransientError(f"{self.card.name} failed with {fault}", kind) from None
            if status == 400 and "context" in fault:
                raise ContextLengthExceeded(f"{self.card.name} refused a prompt with {fault}") from None
            advice = {
                401: "look at OLLAMA_API_KEY",
                403: "look at OLLAMA_API_KEY",
                404: f"ollama pull {self.card.name}",
            }
            then = f". To go on: {advice[status]}" if status in advice else ""
            raise ModelError(f"{self.card.name} refused a request with {fault}{then}") from None
        except httpx.TimeoutException as error:
            raise TransientError(f"{self.card.name} did not answer: {type(error).__name__}", "timeout") from None
        except (httpx.RemoteProtocolError, ValueError) as error:  # half a body is no JSON
            raise TransientError(
                f"{self.card.name} was cut off: {' '.join(str(error).split())[:200]}", "cut off"
            ) from None
        except (ConnectionError, httpx.RequestError, httpx.HTTPStatusError, KeyError, TypeError) as error:
            raise TransientError(f"{self.card.name} cannot be reached: {type(error).__name__}", "connection") from None


async def open_ollama(
    name: str,
    *,
    host: str | None = None,
    timeout: float = 120.0,
    transport: httpx.AsyncBaseTransport | None = None,
    selector: str | None = None,
    quality: Quality = "model",
    mode: Mode = "listwise",
) -> OllamaModel:
    """Meet a model: the server answers, and has it.

    Parameters: `host`, a URL, else the environment's OLLAMA_HOST; `timeout`, seconds of one request (the client's own
    default is to wait for ever); `transport`, for a server in this process.
    Raises SelectorUnavailable, with the command that would help.
    """
    try:  # connections are as many as there are questions at once, and those are counted elsewhere
        limits = httpx.Limits(max_connections=None)
        client = WireClient(host=host, timeout=timeout, transport=transport, limits=limits)
    except (ValueError, httpx.InvalidURL) as error:
        shown = redact_url(host or os.environ.get("OLLAMA_HOST", ""))
        raise SelectorUnavailable(f"--host {shown!r} is no URL of a server: {redact_url(str(error))}") from None
    where = str(client._client.base_url).rstrip("/")
    if not _may_see_key(host):
        client._client.headers.pop("authorization", None)
    try:
        async with asyncio.timeout(MEETING):
            version = await client.version()
            digests = {model.model: str(model.digest) for model in (await client.list()).models}
            known = name if name in digests else f"{name}:latest"
            if known not in digests:
                raise SelectorUnavailable(
                    f"the Ollama server at {where} has no model {name!r}. Get it with: ollama pull {name}"
                )
            info = (await client.show(known)).modelinfo or {}
    except BaseException as error:
        await client.close()
        if isinstance(error, (ConnectionError, TimeoutError, httpx.TransportError)):
            raise HostUnreachable(
                f"no Ollama server answers at {where}. Start it with `ollama serve`, or name another with --host URL"
            ) from None
        status = error.status_code if isinstance(error, ResponseError) else 0
        status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else status
        if status in PASSING_STATUSES or status >= PROXY_STATUSES:
            raise HostUnreachable(
                f"the Ollama server at {where} answers nothing but status {status}: try again when it is well"
            ) from None
        if status in (401, 403):
            raise SelectorUnavailable(
                f"the server at {where} refused to be asked with status {status}. {KEY}"
            ) from None
        if isinstance(error, (ResponseError, httpx.HTTPStatusError, ValueError, KeyError)):
            raise SelectorUnavailable(f"the server at {where} does not answer as Ollama does: {_said(error)}") from None
        raise
    card = ModelInfo(
        selector=selector or f"ollama:{name}",
        name=known,
        digest=digests[known],
        server_version=version,
        quality=quality,
        mode=mode,
    )
    return OllamaModel(client, card, info.get(f"{info.get('general.architecture')}.context_length"))


def _may_see_key(host: str | None) -> bool:
    """The client would send OLLAMA_API_KEY to any host; it was given for the one in OLLAMA_HOST, or for the cloud."""
    named, asked = (one.rstrip("/") for one in (os.environ.get("OLLAMA_HOST") or "", host or ""))
    return (bool(named) and asked in ("", named)) or asked == OLLAMA_CLOUD


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
            one.token: one.logprob for one in alternatives or [] if one.token is not None and one.logprob is not None
        },
    )


def _said(error: Exception) -> str:
    """What a server said, on one line and not too long: the client hands its JSON through as text."""
    text = getattr(error, "error", None) or str(error)
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]
    return sanitize(" ".join(str(text).split())[:200])
