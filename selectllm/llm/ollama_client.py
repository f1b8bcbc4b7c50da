"""The connection to an Ollama server: the official client, with the keys, the fields and the errors that it lacks."""

import json
from contextlib import suppress
from functools import cache
from typing import Any, Final

import httpx
from httpx import HTTPStatusError
from ollama import AsyncClient, ResponseError

from selectllm.errors import HostUnreachable, SelectorUnavailable
from selectllm.llm.backoff import RATE_LIMIT, wait_seconds
from selectllm.llm.keys import ApiKeys
from selectllm.paths import redact_url
from selectllm.text import sanitize

OLLAMA: Final = "http://127.0.0.1:11434"

# Statuses of errors that can pass; -1 is what the client makes of an error within a stream.
PASSING_STATUSES: Final = {
    -1: "cut off",
    408: "timeout",
    429: RATE_LIMIT,
    500: "server error",
    502: "bad gateway",
    503: "busy",
    504: "timeout",
}
NOT_IMPLEMENTED: Final = 501  # of a server's own errors the one that stays

KEY_ADVICE: Final = (
    "Set OLLAMA_API_KEY to a key that is good there, and OLLAMA_HOST to that URL: --host alone sends none"
)


_ssl_context = cache(httpx.create_ssl_context)  # read once a process: that takes longer than all else about a client


class OllamaClient(AsyncClient):
    """The official client, with two fields that it does not offer: too long a prompt is an error, never cut."""

    async def _request(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        if args[1] in ("/api/chat", "/api/generate"):
            kwargs["json"] |= {"truncate": False, "shift": False}
        return await super()._request(cls, *args, **kwargs)

    @property
    def url(self) -> str:
        """The server's URL."""
        return str(self._client.base_url).rstrip("/")

    async def version(self) -> str:
        """The server's version."""
        answer = await self._client.get("/api/version")
        answer.raise_for_status()
        return str(answer.json()["version"])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def connect(host: str | None, keys: ApiKeys, timeout: float) -> OllamaClient:
    """A client of a host, or of the one that goes with the key; raises SelectorUnavailable when the host is no URL."""
    asked = host or keys.host("ollama") or OLLAMA
    try:  # connections are as many as there are questions at once, and those are counted elsewhere
        limits = httpx.Limits(max_connections=None)
        client = OllamaClient(host=asked, timeout=timeout, limits=limits, verify=_ssl_context())
    except (ValueError, httpx.InvalidURL) as error:
        problem = f"is no URL of a server: {redact_url(str(error))}"
        raise SelectorUnavailable(f"--host {redact_url(asked)!r} {problem}") from None
    # The client takes OLLAMA_API_KEY from the environment for any host.
    client._client.headers.pop("authorization", None)
    if key := keys.for_host("ollama", host).key:
        client._client.headers["authorization"] = f"Bearer {key}"
    return client


def unavailable(error: BaseException, where: str) -> BaseException:
    """What to raise for an error of the check: what can be said of it, else the error itself."""
    if isinstance(error, (ConnectionError, TimeoutError, httpx.TransportError)):
        advice = "Start it with `ollama serve`, or name another with --host URL"
        return HostUnreachable(f"no Ollama server answers at {where}. {advice}")
    status = error.status_code if isinstance(error, ResponseError) else 0
    status = error.response.status_code if isinstance(error, HTTPStatusError) else status
    if passing_kind(status):
        server = f"the Ollama server at {where}"
        return HostUnreachable(f"{server} answers nothing but status {status}: try again when it is well")
    if status in (401, 403):
        return SelectorUnavailable(f"the server at {where} refused to be asked with status {status}. {KEY_ADVICE}")
    if isinstance(error, (ResponseError, HTTPStatusError, ValueError, KeyError)):
        return SelectorUnavailable(f"the server at {where} does not answer as Ollama does: {message_of(error)}")
    return error


def passing_kind(status: int) -> str | None:
    """The kind of error that a status stands for where it can pass, else None."""
    return PASSING_STATUSES.get(status, "bad gateway" if status > NOT_IMPLEMENTED else None)


def wait_of(error: ResponseError) -> float | None:
    """Seconds that a refusal asks to wait: the client's error does not say, but keeps what it was made from."""
    cause = error.__context__
    return wait_seconds(cause.response.headers) if isinstance(cause, HTTPStatusError) else None


def message_of(error: Exception) -> str:
    """What a server says, on one line and not too long: the client passes its JSON on as text."""
    text = getattr(error, "error", None) or str(error)
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]
    return sanitize(" ".join(str(text).split())[:200])
