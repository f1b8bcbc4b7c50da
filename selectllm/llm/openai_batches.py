"""OpenAI's Files and Batches: sends questions as one file at half the price, and reads the answers within a day.

Source: https://platform.openai.com/docs/guides/batch, and the types of the official client, which are generated from
OpenAI's OpenAPI description.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from selectllm.errors import SelectorUnavailable, TransientError
from selectllm.llm.batch_records import BatchRecord
from selectllm.llm.openai_client import shown_url
from selectllm.llm.openai_errors import Refusal, RefusedError, errors_translated

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

MOST_REQUESTS: Final = 50_000
"""Requests of one batch."""

MOST_BYTES: Final = 200 * 10**6
"""Bytes of its file."""

OVER: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""The states after which a batch changes no more."""

QUEUE_FULL: Final = "token_limit_exceeded"
"""How a server says that all batches of an account together have more tokens than it lets wait."""

TOKEN: Final = "selectllm"  # the name of a record's token in the metadata of its batch
SECONDS: Final = 20.0  # that a short request may take
CLOCK_SECONDS: Final = 86_400  # by which the server's clock and ours may differ


@dataclass(frozen=True)
class BatchState:
    """What the server says of a batch. The files are None where there is none of the kind."""

    id: str
    status: str
    total: int
    completed: int
    output_file: str | None
    error_file: str | None
    error_codes: tuple[str, ...]
    errors: str  # why it failed as a whole, in the server's words

    @property
    def is_over(self) -> bool:
        """Whether it changes no more."""
        return self.status in OVER

    @classmethod
    def of(cls, batch: "Batch") -> "BatchState":
        """The state that the client's object holds; servers leave out what they do not have."""
        counts, errors = batch.request_counts, list((batch.errors and batch.errors.data) or ())
        return cls(
            id=batch.id,
            status=batch.status,
            total=(counts and counts.total) or 0,
            completed=(counts and counts.completed) or 0,
            output_file=batch.output_file_id,
            error_file=batch.error_file_id,
            error_codes=tuple(error.code or "" for error in errors),
            errors="; ".join(dict.fromkeys(f"{error.code}: {error.message}" for error in errors)),
        )


@dataclass(frozen=True)
class Result:
    """A line of a batch's files: the answer to one request, or why there is none."""

    status: int
    body: Any
    error: str = ""  # what kept the server from asking at all, such as batch_expired

    @property
    def has_answer(self) -> bool:
        """Whether the model has answered, so that the request is paid for."""
        return self.status == 200

    def completion(self) -> Any:
        """The answer; raises RefusedError, and TransientError where the request was not asked."""
        if self.error:
            raise TransientError(f"a question of a batch was not asked: {self.error}", "batch without an answer")
        refused = self.body.get("error") if isinstance(self.body, dict) else None
        if not self.has_answer:
            raise RefusedError(Refusal.in_batch(self.status, refused or self.body))
        if refused:
            raise RefusedError(Refusal.in_answer(refused))
        return self.body


class BatchApi:
    """The batches of one server. All methods raise TransientError for what may pass, and ModelError for all else."""

    def __init__(self, client: "AsyncOpenAI", name: str, timeout: float) -> None:
        self._client, self._name, self._timeout = client, name, timeout

    async def check(self) -> None:
        """Raise SelectorUnavailable where the server has no batches."""
        from openai import APIStatusError

        where = shown_url(str(self._client.base_url))
        try:
            page = await self._client.batches.list(limit=1, timeout=SECONDS)
            has_list = isinstance(page.data, list)
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise
            has_list = error.status_code == 429 or error.status_code >= 500  # it is busy, and will be asked again
        except ValueError:  # not JSON
            has_list = False
        if not has_list:
            raise SelectorUnavailable(f"the server at {where} has no batches (/batches): do without --batch")

    async def upload(self, content: bytes) -> str:
        """Upload a file of requests; returns its id."""
        with errors_translated(self._name, self._client, self._timeout):
            file = await self._client.files.create(file=("selectllm.jsonl", content), purpose="batch")
            return file.id

    async def discard(self, file: str) -> None:
        """Delete a file that is not needed, as far as that goes: the server deletes it after 30 days by itself."""
        from openai import OpenAIError

        with suppress(OpenAIError):
            await self._client.files.delete(file, timeout=SECONDS)

    async def create(self, record: BatchRecord) -> BatchState:
        """Have a file's requests asked, within the only window that there is."""
        with errors_translated(self._name, self._client, SECONDS):
            batch = await self._client.batches.create(
                input_file_id=record.input_file,
                endpoint=record.endpoint,  # type: ignore[arg-type]
                completion_window="24h",
                metadata={TOKEN: record.token},
                timeout=SECONDS,
            )
            return BatchState.of(batch)

    async def find(self, record: BatchRecord) -> BatchState | None:
        """The batch of a record that knows no id, by the token in its metadata; None where the server lists none."""
        with errors_translated(self._name, self._client, SECONDS):
            async for batch in self._client.batches.list(limit=100, timeout=SECONDS):  # the newest first
                if batch.created_at < record.at - CLOCK_SECONDS:
                    break
                if (batch.metadata or {}).get(TOKEN) == record.token:
                    return BatchState.of(batch)
        return None

    async def state(self, id: str) -> BatchState | None:
        """How far a batch is; None where the server does not know it."""
        from openai import NotFoundError

        with errors_translated(self._name, self._client, SECONDS):
            try:
                return BatchState.of(await self._client.batches.retrieve(id, timeout=SECONDS))
            except NotFoundError:
                return None

    async def results(self, state: BatchState) -> tuple[dict[str, Result], bool]:
        """The results of a batch by the ids of their lines, and whether all are there that it has completed.

        Of two lines with one id the first answer counts.
        """
        results: dict[str, Result] = {}
        is_whole = True
        for file in filter(None, (state.output_file, state.error_file)):
            for line in (await self._content(file)).splitlines():
                if not line.strip():
                    continue
                if (read := read_line(line)) is None:
                    is_whole = False
                elif not (known := results.get(read[0])) or (read[1].has_answer and not known.has_answer):
                    results[read[0]] = read[1]
        answers = sum(result.has_answer for result in results.values())
        return results, is_whole and answers >= state.completed

    async def _content(self, file: str) -> bytes:
        from openai import NotFoundError

        with errors_translated(self._name, self._client, self._timeout):
            try:
                return (await self._client.files.content(file)).content
            except NotFoundError:  # deleted by now: its questions have no answer any more
                return b""


def lines_of(requests: Iterator[tuple[str, str, dict[str, Any]]]) -> Iterator[bytes]:
    """The lines of a batch's file, of ids, paths and bodies of requests."""
    for custom_id, url, body in requests:
        line = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
        yield json.dumps(line, separators=(",", ":")).encode() + b"\n"


def read_line(line: bytes) -> tuple[str, Result] | None:
    """The id and the result that a line holds; None for half a line, or any other."""
    try:
        fields: dict[str, Any] = json.loads(line)
        response, error = fields.get("response"), fields.get("error")
        custom_id = str(fields["custom_id"])
        if response:
            return custom_id, Result(int(response["status_code"]), response["body"])
        error = error if isinstance(error, dict) else {"message": error or "no response"}
        return custom_id, Result(0, None, f"{error.get('code') or ''} {error.get('message') or ''}".strip())
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
