"""Models behind OpenAI's API, asked through its official client: ChatGPT, vLLM, llama-server, LM Studio and their like.

These servers agree on the path and on little else. A field that one refuses is given up from then on; what decides that
is always the server's own refusal, never its name.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import httpx

from selectllm.errors import (
    ContextLengthExceeded,
    HostUnreachable,
    MissingDependency,
    ModelError,
    SelectorUnavailable,
    TransientError,
)
from selectllm.llm.model import Mode, ModelInfo, Reply, Request
from selectllm.text import sanitize

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

MEETING: Final = 30.0
"""Seconds that a server has to say what it has."""

OPENAI: Final = "https://api.openai.com/v1"

NO_KEY: Final = "no-key"
"""Sent where there is no key to send: the client insists on one, and servers that want none ignore it."""

PASSING_STATUSES: Final = {408: "timeout", 409: "busy", 429: "busy", 500: "server error", 503: "busy", 504: "timeout"}

CAN_GIVE_UP: Final = {
    "max_completion_tokens": r"max_completion_tokens",  # max_tokens takes its place
    "response_format": r"response_format|schema|grammar|structured",  # the answer is read with tolerance
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
    "reasoning_effort": r"reasoning_effort",
}
"""Fields that an answer can do without, each with the words of a refusal that means it."""

TOO_LONG: Final = re.compile(r"context[ _](length|size|window)|maximum model length|input tokens exceed", re.IGNORECASE)

OUT_OF_ROOM: Final = "could not finish the message because max_tokens"
"""How OpenAI says, with status 400, that a model's thinking took all tokens of the answer."""

DONE_REASONS: Final = frozenset({"stop", "length", "content_filter"})


class OpenAIModel:
    """One model of one server that speaks OpenAI's API."""

    def __init__(self, client: "AsyncOpenAI", card: ModelInfo, timeout: float) -> None:
        self.card = card
        self.context: int | None = None  # the API does not tell: a prompt that is too long is refused when it is sent
        self._client = client
        self._timeout = timeout
        self._given_up: set[str] = set()

    async def prepare(self, longest: int, room: int) -> None:
        """Do nothing: the API lets nothing be fixed."""

    async def answer(self, request: Request) -> Reply:
        """Ask once; and again at once only where a refusal taught which field to do without."""
        from openai import BadRequestError, UnprocessableEntityError

        with self._failures_told():
            async with asyncio.timeout(self._timeout):
                while True:
                    body = self._body(request)
                    try:
                        return self._reply(await self._client.post("/chat/completions", body=body, cast_to=object))
                    except (BadRequestError, UnprocessableEntityError) as error:
                        if OUT_OF_ROOM in _signs(error).lower():
                            return Reply("", "length")
                        # Against this body, not against what is known by now: others may have learned it meanwhile.
                        refused = _refused(error) & body.keys()
                        if not refused:
                            raise
                        self._given_up |= refused

    async def probe(self) -> None:
        """Ask for the list of models; a refusal is an answer, too."""
        try:
            with self._failures_told():
                async with asyncio.timeout(self._timeout):
                    await self._client.get("/models", cast_to=object)
        except TransientError:
            raise
        except ModelError:
            return

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _body(self, request: Request) -> dict[str, Any]:
        prompt = request.prompt
        body: dict[str, Any] = {
            "model": self.card.name,
            "messages": [{"role": "user", "content": prompt.text}],
            "temperature": 0,
            "seed": request.seed,
            "max_completion_tokens": request.num_predict,
        }
        if request.think == "low":
            body["reasoning_effort"] = "low"
        if prompt.schema is None:
            body |= {"logprobs": True, "top_logprobs": 20}
        else:
            form = {"name": "ranking", "strict": True, "schema": prompt.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if "max_completion_tokens" in self._given_up:
            body["max_tokens"] = request.num_predict
        return {field: value for field, value in body.items() if field not in self._given_up}

    def _reply(self, told: Any) -> Reply:
        """Read a completion; ValueError when it is none."""
        try:
            if told.get("error"):  # with status 200
                fault = _safe(told["error"], self._client.api_key)
                raise TransientError(f"{self.card.name} sent an error for an answer: {fault}", "server error")
            choice: dict[str, Any] = next(iter(told.get("choices") or ()), {})
            message, usage = choice.get("message") or {}, told.get("usage") or {}
            places = (choice.get("logprobs") or {}).get("content") or [{}]
            content, reason = message.get("content") or "", choice.get("finish_reason")
            if not isinstance(content, str):  # Mistral sends it in parts, the thinking beside the text
                content = "".join(part.get("text") or "" for part in content)
            return Reply(
                text=content,
                thinking=message.get("reasoning_content") or message.get("reasoning") or "",  # vLLM renamed it
                done_reason=reason if reason in DONE_REASONS else "unfinished",
                prompt_tokens=usage.get("prompt_tokens") or 0,
                output_tokens=usage.get("completion_tokens") or 0,
                logprobs={one["token"]: one["logprob"] for one in places[0].get("top_logprobs") or ()},
            )
        except (AttributeError, KeyError, TypeError):
            raise ValueError("what came is no chat completion") from None

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Progress failures that can pass from those that cannot."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        name = self.card.name
        try:
            yield
        except APIStatusError as error:
            status = error.status_code
            fault = f"status {status}: {_safe(_said(error), self._client.api_key)}"
            if status in (400, 413, 422, 500) and TOO_LONG.search(_signs(error)):
                raise ContextLengthExceeded(f"{name} refused a prompt with {fault}") from None
            if "insufficient_quota" in (error.code, error.type):  # a 429 that no waiting helps
                raise ModelError(
                    f"{name} refused a request with {fault}. To go on: look at the account's plan"
                ) from None
            # Above 501 are those of proxies, some of their own making: what is wrong is between us and the model.
            kind = PASSING_STATUSES.get(status, "server error" if status > 501 else None)
            if kind:
                raise TransientError(f"{name} failed with {fault}", kind) from None
            then = ". To go on: look at OPENAI_API_KEY" if status in (401, 403) else ""
            raise ModelError(f"{name} refused a request with {fault}{then}") from None
        except (APITimeoutError, TimeoutError):
            raise TransientError(f"{name} did not answer within {self._timeout:g} s", "timeout") from None
        except APIConnectionError as error:
            # The client may stand on httpx or on its successor, whose errors have the same names.
            cause = type(error.__cause__).__name__
            if cause in ("RemoteProtocolError", "DecodingError"):
                raise TransientError(f"{name} was cut off: {cause}", "cut off") from None
            raise TransientError(f"{name} cannot be reached: {cause}", "connection") from None
        except ValueError as error:  # half a body is no JSON
            raise TransientError(f"{name} was cut off: {error}", "cut off") from None


async def open_openai(
    name: str,
    *,
    host: str | None = None,
    timeout: float = 120.0,
    mode: Mode = "listwise",
    transport: httpx.AsyncBaseTransport | None = None,
) -> OpenAIModel:
    """Meet a model: the server answers, takes the key, and has the model if it lists any.

    Parameters: `host`, the base URL, else the environment's OPENAI_BASE_URL, else OpenAI's own; `timeout`, seconds of
    one request; `transport`, for a server in this process.
    Raises SelectorUnavailable with what to do about it, MissingDependency.
    """
    try:
        from openai import APIConnectionError, APIStatusError
    except ImportError:
        raise MissingDependency("openai", extra="openai", purpose=f"the selector openai:{name}") from None
    base = host or os.environ.get("OPENAI_BASE_URL") or OPENAI
    where = _shown(base)
    may_see_key = _may_see_key(host)
    client = _client(base, timeout, transport, may_see_key=may_see_key)
    try:
        async with asyncio.timeout(min(MEETING, timeout)):
            await _meet(client, name, where)
    except BaseException as error:
        await client.close()
        if isinstance(error, (APIConnectionError, TimeoutError)):
            raise HostUnreachable(
                f"no server answers at {where}. Start it, or name another's base URL with --host, such as "
                "http://127.0.0.1:8000/v1"
            ) from None
        if isinstance(error, APIStatusError):
            then = (
                "Set OPENAI_API_KEY to a key that is good there"
                if may_see_key
                else "Set OPENAI_API_KEY, and OPENAI_BASE_URL to that URL: no key is sent where only --host points"
            )
            fault = f"status {error.status_code}: {_safe(_said(error), client.api_key)}"
            raise SelectorUnavailable(f"the server at {where} refused to be asked with {fault}. {then}") from None
        raise
    # The API tells nothing of the weights: a name is all that replies can be kept under.
    card = ModelInfo(f"openai:{name}", name, f"openai:{name}", "unknown", "model", mode)
    return OpenAIModel(client, card, timeout)


def _client(
    base: str, timeout: float, transport: httpx.AsyncBaseTransport | None, *, may_see_key: bool
) -> "AsyncOpenAI":
    from openai import AsyncOpenAI

    key = os.environ.get("OPENAI_API_KEY", "").strip() if may_see_key else ""
    if not (key.isascii() and key.isprintable()):
        raise SelectorUnavailable("OPENAI_API_KEY holds characters that no key has: set it anew")
    http_client: Any = httpx.AsyncClient(transport=transport) if transport else None
    client = AsyncOpenAI(api_key=key or NO_KEY, base_url=base, timeout=timeout, max_retries=0, http_client=http_client)
    if not may_see_key:  # the client takes these from the environment, and they were given for another host
        client.organization = client.project = None
        client._custom_headers = {}
    return client


async def _meet(client: "AsyncOpenAI", name: str, where: str) -> None:
    """Look that the model is listed; where no list is kept, that there is at least someone to chat with."""
    _, listed = await _look(client, "/models")
    rows = listed.get("data") if isinstance(listed, dict) else None
    known = [str(row["id"]) for row in rows or () if isinstance(row, dict) and "id" in row]
    if name in known:
        return
    if known:
        closest = ", ".join(get_close_matches(name, known, n=5, cutoff=0.0))
        raise SelectorUnavailable(
            f"the server at {where} does not have the model {name!r}. Of the {len(known)} that it has, the closest by "
            f"name: {closest}"
        )
    status, told = await _look(client, "/chat/completions", {})  # without a message: refused before a model is asked
    is_error = status == 200 and (not isinstance(told, dict) or "error" in told)  # LM Studio's way to say 404
    if is_error or status in (404, 405):
        raise SelectorUnavailable(
            f"the server at {where} does not answer as OpenAI's does. Name its base URL with --host: most end in /v1"
        )


async def _look(client: "AsyncOpenAI", path: str, body: dict[str, Any] | None = None) -> tuple[int, object]:
    """The status and the body that are at a path. APIStatusError when it takes a key, or another one, to know."""
    from openai import APIStatusError

    try:
        if body is None:
            return 200, await client.get(path, cast_to=object)
        return 200, await client.post(path, body=body, cast_to=object)
    except APIStatusError as error:
        if error.status_code in (401, 403):
            raise
        return error.status_code, None
    except ValueError:  # not JSON
        return 200, None


def _may_see_key(host: str | None) -> bool:
    """The key was given for the URL in OPENAI_BASE_URL, or for OpenAI's own; --host alone could name anyone."""
    if not host:
        return True
    url = httpx.URL(host)
    own = url.scheme == "https" and (url.host == "api.openai.com" or url.host.endswith(".api.openai.com"))
    return own or host.rstrip("/") == os.environ.get("OPENAI_BASE_URL", "").rstrip("/")


def _shown(base: str) -> str:
    """The base URL as messages show it: without what may be secret in it."""
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise SelectorUnavailable("the host is no URL: write a base URL in full, such as http://127.0.0.1:8000/v1")
    return f"{url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")


def _refused(error: "APIStatusError") -> set[str]:
    """The fields that a refusal is about, if it is about fields at all."""
    if TOO_LONG.search(_signs(error)):
        return set()
    about = str(error.param or _signs(error))
    return {field for field, words in CAN_GIVE_UP.items() if re.search(words, about, re.IGNORECASE)}


def _signs(error: "APIStatusError") -> str:
    """What a refusal is about, wherever the server says it.

    Not all of its text: some servers repeat the request, and a candidate's words must not pass for theirs.
    """
    return f"{error.code} {error.type} {_said(error)[:500]}"


def _said(error: "APIStatusError") -> str:
    body = error.body
    return str(body.get("message") or body.get("detail") or body if isinstance(body, dict) else body)


def _safe(said: object, key: str) -> str:
    """On one line, not too long, and without the key, which some servers repeat."""
    return sanitize(" ".join(str(said).replace(key, "***").split())[:200])
