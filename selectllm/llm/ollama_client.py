"""The connection to an Ollama server: the official client, with the keys, the fields and the errors that it lacks."""

import ipaddress
import json
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx
from httpx import HTTPStatusError

from selectllm.errors import HostUnreachable, SelectorUnavailable
from selectllm.llm.backoff import RATE_LIMIT, wait_seconds
from selectllm.llm.connection import http_options, proxy_note, redirect_problem, tls_problem
from selectllm.llm.connection_pools import ConnectionPools
from selectllm.llm.keys import ApiKeys, without_key
from selectllm.llm.ollama_package import AsyncClient, ResponseError
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


class OllamaClient(AsyncClient):
    """The official client, with two fields that it does not offer: too long a prompt is an error, never cut."""

    key = ""  # that is sent, and must not be shown

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
    """A client of a host, or of the one that goes with the key; a URL may hold a user and a password.

    Raises SelectorUnavailable when the host is no URL, or cannot be reached as the environment says.
    """
    asked = _with_brackets((host or keys.host("ollama") or OLLAMA).strip())
    key = keys.for_host("ollama", host).key
    try:
        url = urlsplit(asked if "://" in asked else f"http://{asked}")
        if url.scheme not in ("http", "https") or not asked.isprintable() or " " in asked:
            raise ValueError("write one such as http://127.0.0.1:11434")
        options = http_options(httpx.URL(scheme=url.scheme, host=url.hostname or "127.0.0.1", port=url.port))
        if url.username is not None and not key:  # the key would stand in the same header
            options["auth"] = httpx.BasicAuth(unquote(url.username), unquote(url.password or ""))
        transport = ConnectionPools(proxy=options.pop("proxy"), verify=options.pop("verify"), trust_env=False)
        # Without a header of ours the client would take OLLAMA_API_KEY from the environment, for any host.
        headers = {"authorization": f"Bearer {key}"}
        client = OllamaClient(host=asked, timeout=timeout, transport=transport, headers=headers, **options)
    except (ValueError, httpx.InvalidURL) as error:
        problem = f"is no URL of a server: {redact_url(str(error))}"
        named = "--host" if host or not keys.host("ollama") else "OLLAMA_HOST"
        raise SelectorUnavailable(f"{named} {redact_url(asked)!r} {problem}") from None
    client.key = key
    if not key:
        client._client.headers.pop("authorization")
    return client


def _with_brackets(host: str) -> str:
    """A host as it stands in a URL: OLLAMA_HOST may be a bare address of IPv6."""
    with suppress(ValueError):
        if ipaddress.ip_address(host).version == 6:
            return f"[{host}]"
    return host


def unavailable(error: BaseException, client: OllamaClient) -> BaseException:
    """What to raise for an error of the check: what can be said of it, else the error itself."""
    where, note = client.url, proxy_note(httpx.URL(client.url))
    if isinstance(error, (ConnectionError, TimeoutError, httpx.TransportError)):
        if problem := tls_problem(error, where):
            return SelectorUnavailable(problem)
        advice = "Start it with `ollama serve`, or name another with --host URL (hosts in a form)"
        return HostUnreachable(f"no Ollama server answers at {where}. {advice}{note}")
    response = error.response if isinstance(error, HTTPStatusError) else None
    status = error.status_code if isinstance(error, ResponseError) else response.status_code if response else 0
    if response and (problem := redirect_problem(status, response.headers, where)):
        return SelectorUnavailable(problem + note)
    if passing_kind(status):
        server = f"the Ollama server at {where}"
        return HostUnreachable(f"{server} answers nothing but status {status}: try again when it is well{note}")
    if status in (401, 403):
        refusal = f"the server at {where} refused to be asked with status {status}"
        return SelectorUnavailable(f"{refusal}. {KEY_ADVICE}{note}")
    if isinstance(error, (ResponseError, HTTPStatusError, ValueError, KeyError)):
        said = message_of(error, client.key)
        return SelectorUnavailable(f"the server at {where} does not answer as Ollama does: {said}{note}")
    return error


def passing_kind(status: int) -> str | None:
    """The kind of error that a status stands for where it can pass, else None."""
    return PASSING_STATUSES.get(status, "bad gateway" if status > NOT_IMPLEMENTED else None)


def wait_of(error: ResponseError) -> float | None:
    """Seconds that a refusal asks to wait: the client's error does not say, but keeps what it was made from."""
    cause = error.__context__
    return wait_seconds(cause.response.headers) if isinstance(cause, HTTPStatusError) else None


def message_of(error: Exception, key: str) -> str:
    """What a server says, on one line, not too long, and without the key: the client passes its JSON on as text."""
    text = getattr(error, "error", None) or str(error)
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]
    return sanitize(without_key(" ".join(str(text).split()), key)[:200])
