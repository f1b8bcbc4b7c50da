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

from selectllm.errors import HostUnreachable, ModelError, PassingError, PromptTooLong, SelectorUnavailable
from selectllm.models.base import Mode, ModelCard, Quality, Reply, Request

MEETING: Final = 30.0
"""Seconds that a server has to say who it is."""

PASSING_STATUSES: Final = {-1: "cut off", 429: "busy", 502: "bad gateway", 503: "busy"}
"""Answers that mean `not now`: -1 is what the client makes of an error within a stream."""

PASSING_ERRORS: Final = ("unexpectedly stopped", "timed out waiting", "llama-server process")
"""What a 500 says when the runner behind the server died and will be started again."""

BYTES_PER_TOKEN: Final = 2.5
"""Of UTF-8; low for most text, so that the context is rather too large than too small."""

MOST_BYTES_PER_TOKEN: Final = 8.0
"""No tokenizer does better over a whole prompt: a prompt that was counted as fewer tokens was not read whole."""

OBSERVED: Final = 8
"""Replies after which the model's own bytes per token are known well enough to be held against it."""

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

    def __init__(self, client: WireClient, card: ModelCard, longest_context: int | None) -> None:
        self.card = card
        self._client = client
        self._longest_context = longest_context
        self.context: int | None = None
        self._most_bytes_per_token = 0.0
        self._replies = 0

    async def prepare(self, longest: int) -> None:
        """Fix the context for the run, load the model with it, and look what context it really got.

        A request that asked for another context would make the server load the model anew.
        """
        most = self._longest_context or math.inf
        wanted = 1024 * math.ceil((longest / BYTES_PER_TOKEN + 1024) / 1024)
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
            raise PromptTooLong(f"{size:,} bytes do not fit the {self.context:,} tokens that {self.card.name} reads")
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
            raise PassingError(f"{self.card.name} broke an answer off", "unfinished")
        if not reply.prompt_tokens:  # not every server counts
            return
        ratio = size / reply.prompt_tokens
        learned = 2 * self._most_bytes_per_token if self._replies >= OBSERVED else MOST_BYTES_PER_TOKEN
        over = self.context is not None and reply.prompt_tokens + num_predict > self.context
        if ratio > min(learned, MOST_BYTES_PER_TOKEN) or over:
            raise PassingError(
                f"{self.card.name} counted {reply.prompt_tokens:,} tokens in a prompt of {size:,} bytes: it was cut",
                "low count",
            )
        self._replies += 1
        self._most_bytes_per_token = max(self._most_bytes_per_token, ratio)

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Tell failures that can pass from those that cannot."""
        try:
            yield
        except ResponseError as error:
            fault, status = f"status {error.status_code}: {_said(error)}", error.status_code
            if status == 500 and any(sign in fault for sign in PASSING_ERRORS):
                raise PassingError(f"{self.card.name} failed with {fault}", "runner died") from None
            if status in PASSING_STATUSES:
                raise PassingError(f"{self.card.name} failed with {fault}", PASSING_STATUSES[status]) from None
            if status == 400 and "context" in fault:
                raise PromptTooLong(f"{self.card.name} refused a prompt with {fault}") from None
            advice = {
                401: "look at OLLAMA_API_KEY",
                403: "look at OLLAMA_API_KEY",
                404: f"ollama pull {self.card.name}",
            }
            then = f". To go on: {advice[status]}" if status in advice else ""
            raise ModelError(f"{self.card.name} refused a request with {fault}{then}") from None
        except httpx.TimeoutException as error:
            raise PassingError(f"{self.card.name} did not answer: {type(error).__name__}", "timeout") from None
        except (httpx.RemoteProtocolError, ValueError) as error:  # half a body is no JSON
            raise PassingError(
                f"{self.card.name} was cut off: {' '.join(str(error).split())[:200]}", "cut off"
            ) from None
        except (ConnectionError, httpx.RequestError, httpx.HTTPStatusError, KeyError, TypeError) as error:
            raise PassingError(f"{self.card.name} cannot be reached: {type(error).__name__}", "connection") from None


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
        raise SelectorUnavailable(f"--host {host!r} is no URL of a server: {error}") from None
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
        if isinstance(error, (ResponseError, httpx.HTTPStatusError, ValueError, KeyError)):
            raise SelectorUnavailable(f"the server at {where} does not answer as Ollama does: {_said(error)}") from None
        raise
    card = ModelCard(
        selector=selector or f"ollama:{name}",
        name=name,
        digest=digests[known],
        server_version=version,
        quality=quality,
        mode=mode,
    )
    return OllamaModel(client, card, info.get(f"{info.get('general.architecture')}.context_length"))


def _may_see_key(host: str | None) -> bool:
    """The client would send OLLAMA_API_KEY to any host; it was given for the one in OLLAMA_HOST, or for the cloud."""
    return host is None or host == os.environ.get("OLLAMA_HOST") or host.rstrip("/") == OLLAMA_CLOUD


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
    return " ".join(str(text).split())[:200]
