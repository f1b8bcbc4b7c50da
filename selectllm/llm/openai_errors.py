"""What servers say that speak OpenAI's API and refuse a request, and the error of ours that each refusal is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from selectllm.errors import ContentRefused, ContextLengthExceeded, ModelError, ModelUnavailable, TransientError
from selectllm.llm.backoff import QUOTA_ADVICE, RATE_LIMIT, is_quota, wait_seconds
from selectllm.llm.keys import without_key
from selectllm.text import sanitize

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

PASSING_STATUSES: Final = {
    200: "server error",  # of a server that sends an error for an answer, and no status for it
    408: "timeout",
    409: "busy",
    429: RATE_LIMIT,
    500: "server error",
    503: "busy",
    504: "timeout",
}
FIELD_STATUSES: Final = (400, 422)  # of refusals that can be about a field

# How servers say that a prompt does not fit, each with whose words they are.
TOO_LONG: Final = re.compile(
    r"context[ _](length|size|window|limit)"  # OpenAI, llama.cpp, LM Studio, Anthropic
    r"|maximum (model|prompt) length|input tokens? exceed"  # vLLM, xAI, OpenAI, Bedrock
    r"|`inputs`.* must (be <=|have less than)"  # TGI
    r"|(prompt|input) is too long|too many input tokens"  # Anthropic, Bedrock
    r"|input token count|reduce the length|request (entity )?too large|tokens in the prompt cannot exceed",
    re.IGNORECASE,  # Gemini, Groq, Groq and nginx, Cohere
)
TOO_LONG_STATUSES: Final = (200, 400, 422, 500)
# How servers say that they refuse what a prompt says, by the beginning of code, type and message: some servers repeat
# the request in their messages.
OF_CONTENT: Final = re.compile(
    r"(\S* )?(content_filter|content_policy\w*|invalid_prompt|data_inspection_failed)\b"  # Azure, OpenAI, Alibaba
    r"|\S* \S+ (Content Exists Risk$|litellm\.ContentPolicyViolationError)"  # DeepSeek, LiteLLM
)
LARGE_FOR_RATE: Final = "request too large"  # a 429 that no waiting helps: one request is more than a minute's tokens
# How OpenAI says, with status 400, that a model's thinking took all tokens of the answer.
OUT_OF_ROOM: Final = "could not finish the message because max_tokens"


@dataclass(frozen=True)
class Refusal:
    """A server's refusal: its status, and what it is about. `message` is in the server's own words."""

    status: int
    message: str
    code: str = ""
    type: str = ""
    param: str = ""
    retry_after: float | None = None
    is_of_content: bool = False
    """Whether it is about what the prompt says, and not about how it was sent."""
    failed_generation: str | None = None
    """What a model had written when its server found that it is not what the schema asks for."""

    @classmethod
    def of(cls, error: "APIStatusError") -> "Refusal":
        """What the client's error says."""
        fields: dict[str, Any] = {
            name: str(value) for name in ("code", "type", "param") if (value := getattr(error, name, None))
        }
        retry_after = wait_seconds(error.response.headers)
        known = cls(error.status_code, _message(error.body), **fields, retry_after=retry_after)
        return known._with_content(error.body)

    @classmethod
    def in_answer(cls, error: Any) -> "Refusal":
        """What a server says that sends an error with status 200, and perhaps its own status as a code."""
        code = str(error.get("code") if isinstance(error, dict) else "")
        status = int(code) if re.fullmatch("[45][0-9]{2}", code) else 200
        return cls(status, _message(error), code)._with_content(error)

    @classmethod
    def in_batch(cls, status: int, error: Any) -> "Refusal":
        """What a server says of one request of a batch."""
        fields = error if isinstance(error, dict) else {}
        texts = {name: str(value) for name in ("code", "type", "param") if (value := fields.get(name))}
        return cls(status, _message(error), **texts)._with_content(error)  # type: ignore[arg-type]

    def _with_content(self, error: Any) -> "Refusal":
        """The same, with what the error's JSON says of the contents of prompt and answer."""
        error = error if isinstance(error, dict) else {}
        metadata, text = error.get("metadata"), error.get("failed_generation")
        has_reasons = isinstance(metadata, dict) and ("reasons" in metadata or "flagged_input" in metadata)
        is_of_content = has_reasons or bool(OF_CONTENT.match(f"{self.code} {error.get('type')} {self.message}"))
        is_failed = text is not None or self.code == "json_validate_failed"
        return replace(self, is_of_content=is_of_content, failed_generation=str(text or "") if is_failed else None)

    @property
    def signs(self) -> str:
        """What it is about, wherever the server says it."""
        # Not all of its text: some servers repeat the request, and a candidate's words must not pass for theirs.
        return f"{self.code} {self.type} {self.message[:500]}"

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt does not fit."""
        if self.status == 429:
            return LARGE_FOR_RATE in self.signs.lower()
        return self.status == 413 or (self.status in TOO_LONG_STATUSES and bool(TOO_LONG.search(self.signs)))

    @property
    def may_name_a_field(self) -> bool:
        """Whether it can be about a field of the request."""
        is_of_text = self.is_too_long or self.is_of_content or self.failed_generation is not None
        return self.status in FIELD_STATUSES and not is_of_text

    @property
    def is_out_of_room(self) -> bool:
        """Whether the answer was not finished within its tokens."""
        return OUT_OF_ROOM in self.signs.lower()

    def error(self, name: str, client: "AsyncOpenAI") -> ModelError:
        """The error of ours that it is, for a model of this name; the keys are left out of what the server says."""
        message = f"status {self.status}: {safe(self.message, client)}"
        if self.is_too_long:
            return ContextLengthExceeded(f"{name} refused a prompt with {message}")
        if self.is_of_content:
            return ContentRefused(f"{name} refused what a prompt says with {message}")
        then = ". To go on: look at OPENAI_API_KEY" if self.status in (401, 403) else ""
        # Above 501 are those of proxies, some of their own making: what is wrong is between us and the model.
        kind = PASSING_STATUSES.get(self.status, "server error" if self.status > 501 else None)
        is_used_up = kind == RATE_LIMIT and not self.retry_after and is_quota(self.signs)
        if is_used_up or "insufficient_quota" in (self.code, self.type):  # a 429 that no waiting helps
            kind, then = None, f". {QUOTA_ADVICE}"
        if kind:
            return TransientError(f"{name} failed with {message}", kind, self.retry_after)
        is_of_all = bool(then) or self.status == 404  # and not of how this request is put
        return (ModelUnavailable if is_of_all else ModelError)(f"{name} refused a request with {message}{then}")


class RefusedError(Exception):
    """A server refused a request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@contextmanager
def errors_translated(name: str, client: "AsyncOpenAI", timeout: float) -> Iterator[None]:
    """Turn what a client raises, asked for a model of this name, into our errors: what can pass, and what cannot."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    try:
        yield
    except RefusedError as error:
        raise error.refusal.error(name, client) from None
    except APIStatusError as error:
        raise Refusal.of(error).error(name, client) from None
    except (APITimeoutError, TimeoutError):
        raise TransientError(f"{name} did not answer within {timeout:g} s", "timeout") from None
    except APIConnectionError as error:
        # The client may stand on httpx or on its successor, whose errors have the same names.
        cause = type(error.__cause__).__name__
        if cause in ("RemoteProtocolError", "DecodingError"):
            raise TransientError(f"{name} was cut off: {cause}", "cut off") from None
        raise TransientError(f"{name} cannot be reached: {cause}", "connection") from None
    except ValueError as error:  # half a body is no JSON
        raise TransientError(f"{name} was cut off: {error}", "cut off") from None


def safe(message: object, client: "AsyncOpenAI") -> str:
    """On one line, not too long, and without the key and the headers of one's own, which some servers repeat."""
    text = " ".join(str(message).split())
    for secret in (client.api_key, *client._custom_headers.values()):
        text = without_key(text, str(secret))
    return sanitize(text[:200])


def _message(body: object) -> str:
    """What a server says, in its own words, and in those of the server behind it, which OpenRouter quotes."""
    if not isinstance(body, dict):
        return str(body)
    message, metadata = str(body.get("message") or body.get("detail") or body), body.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{message}: {raw}" if raw else message
