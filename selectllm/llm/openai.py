"""Models behind OpenAI's API, asked through its official client: ChatGPT, vLLM, llama-server, LM Studio and their like.

These servers agree on the path and on little else. A field that one refuses is given up from then on; what decides that
is always the server's own refusal, never its name.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from selectllm.errors import (
    ContextLengthExceeded,
    HostUnreachable,
    MissingDependency,
    ModelError,
    SelectorUnavailable,
    TransientError,
)
from selectllm.llm.backoff import QUOTA_ADVICE, RATE_LIMIT, is_quota, wait_seconds
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Mode, ModelInfo, Reply, Request
from selectllm.llm.openai_client import OPENAI, check_listed, connect, message_of, safe, shown_url, signs_of

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

CHECK_SECONDS: Final = 30.0  # that a server has to say what it has
PASSING_STATUSES: Final = {
    408: "timeout",
    409: "busy",
    429: RATE_LIMIT,
    500: "server error",
    503: "busy",
    504: "timeout",
}

# Fields that an answer can do without, each with the words of a refusal that means it.
CAN_GIVE_UP: Final = {
    "max_completion_tokens": r"max_completion_tokens",  # max_tokens takes its place
    "response_format": r"response_format|schema|grammar|structured",  # the answer is read with tolerance
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
    "reasoning_effort": r"reasoning_effort",
}

TOO_LONG: Final = re.compile(r"context[ _](length|size|window)|maximum model length|input tokens exceed", re.IGNORECASE)
# How OpenAI says, with status 400, that a model's thinking took all tokens of the answer.
OUT_OF_ROOM: Final = "could not finish the message because max_tokens"
DONE_REASONS: Final = frozenset({"stop", "length", "content_filter"})


class OpenAIModel:
    """One model of one server that speaks OpenAI's API."""

    def __init__(self, client: "AsyncOpenAI", info: ModelInfo, timeout: float) -> None:
        self.info = info
        self.context: int | None = None  # the API does not say: a prompt that is too long is refused when it is sent
        self._client, self._timeout = client, timeout
        self._given_up: set[str] = set()

    @property
    def host(self) -> str:
        """The server's base URL, without secrets."""
        return shown_url(str(self._client.base_url))

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Do nothing: the API lets nothing be fixed."""

    async def answer(self, request: Request) -> Reply:
        """Ask once; and again at once only where a refusal taught which field to do without."""
        from openai import BadRequestError, UnprocessableEntityError

        with self._errors_translated():
            async with asyncio.timeout(self._timeout):
                while True:
                    body = self._body(request)
                    try:
                        return self._reply(await self._client.post("/chat/completions", body=body, cast_to=object))
                    except (BadRequestError, UnprocessableEntityError) as error:
                        if OUT_OF_ROOM in signs_of(error).lower():
                            return Reply("", "length")
                        # Compare with this body, not with `_given_up`: another request may have been refused meanwhile.
                        refused = _refused(error) & body.keys()
                        if not refused:
                            raise
                        self._given_up |= refused

    async def probe(self) -> None:
        """Ask for the list of models; a refusal is an answer, too."""
        try:
            with self._errors_translated():
                async with asyncio.timeout(self._timeout):
                    await self._client.get("/models", cast_to=object)
        except ModelError as error:
            if isinstance(error, TransientError):
                raise

    async def verify(self) -> None:
        """Do nothing: the API says nothing of the weights."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.info.name, "messages": [{"role": "user", "content": request.text}]}
        body |= {"temperature": 0, "seed": request.seed, "max_completion_tokens": request.max_tokens}
        if request.think == "low":
            body["reasoning_effort"] = "low"
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": 20}
        else:
            form = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if "max_completion_tokens" in self._given_up:
            body["max_tokens"] = request.max_tokens
        return {field: value for field, value in body.items() if field not in self._given_up}

    def _reply(self, completion: Any) -> Reply:
        """Read a completion; ValueError when it is none."""
        try:
            if completion.get("error"):  # with status 200
                error = safe(completion["error"], self._client.api_key)
                raise TransientError(f"{self.info.name} sent an error for an answer: {error}", "server error")
            choice: dict[str, Any] = next(iter(completion.get("choices") or ()), {})
            message, usage = choice.get("message") or {}, completion.get("usage") or {}
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
                logprobs={token["token"]: token["logprob"] for token in places[0].get("top_logprobs") or ()},
            )
        except (AttributeError, KeyError, TypeError):
            raise ValueError("what came is no chat completion") from None

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """Turn what the client raises into our errors: those that can pass, and those that cannot."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        name = self.info.name
        try:
            yield
        except APIStatusError as error:
            status = error.status_code
            message = f"status {status}: {safe(message_of(error), self._client.api_key)}"
            if status in (400, 413, 422, 500) and TOO_LONG.search(signs_of(error)):
                raise ContextLengthExceeded(f"{name} refused a prompt with {message}") from None
            then = ". To go on: look at OPENAI_API_KEY" if status in (401, 403) else ""
            # Above 501 are those of proxies, some of their own making: what is wrong is between us and the model.
            kind = PASSING_STATUSES.get(status, "server error" if status > 501 else None)
            wait = wait_seconds(error.response.headers)
            is_used_up = kind == RATE_LIMIT and not wait and is_quota(signs_of(error))
            if is_used_up or "insufficient_quota" in (error.code, error.type):  # a 429 that no waiting helps
                kind, then = None, f". {QUOTA_ADVICE}"
            if kind:
                raise TransientError(f"{name} failed with {message}", kind, wait) from None
            raise ModelError(f"{name} refused a request with {message}{then}") from None
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
    name: str, *, host: str | None = None, keys: ApiKeys, timeout: float = 120.0, mode: Mode = "listwise"
) -> OpenAIModel:
    """Open a model, after checking that the server answers, takes the key, and has the model if it lists any.

    Parameters: `host`, the base URL, else the one that goes with the key, else OpenAI's own; `timeout`, seconds of one
    request.
    Raises SelectorUnavailable with what to do about it, MissingDependency.
    """
    try:
        from openai import APIConnectionError, APIStatusError
    except ImportError:
        raise MissingDependency("openai", extra="openai", purpose=f"the selector openai:{name}") from None
    base = host or keys.host("openai") or OPENAI
    where, client = shown_url(base), connect(base, keys.for_host("openai", host), timeout)
    try:
        async with asyncio.timeout(min(CHECK_SECONDS, timeout)):
            await check_listed(client, name, where)
    except BaseException as error:
        await client.close()
        if isinstance(error, (APIConnectionError, TimeoutError)):
            advice = "Start it, or name another's base URL with --host, such as http://127.0.0.1:8000/v1"
            raise HostUnreachable(f"no server answers at {where}. {advice}") from None
        if isinstance(error, APIStatusError):
            advice = "Set OPENAI_API_KEY, and OPENAI_BASE_URL to that URL: no key is sent where only --host points"
            if keys.may_see("openai", host):
                advice = "Set OPENAI_API_KEY to a key that is good there"
            message = f"status {error.status_code}: {safe(message_of(error), client.api_key)}"
            raise SelectorUnavailable(f"the server at {where} refused to be asked with {message}. {advice}") from None
        raise
    # The API says nothing of the weights: replies can be kept under the name alone.
    info = ModelInfo(f"openai:{name}", name, f"openai:{name}", "unknown", "model", mode)
    return OpenAIModel(client, info, timeout)


def _refused(error: "APIStatusError") -> set[str]:
    """The fields that a refusal is about, if it is about fields at all."""
    if TOO_LONG.search(signs_of(error)):
        return set()
    about = str(error.param or signs_of(error))
    return {field for field, words in CAN_GIVE_UP.items() if re.search(words, about, re.IGNORECASE)}
