"""A server's batches, asked with patience: what can pass is tried again, and a wait may take a day.

A batch is remembered before it is created. Where it is not known whether it was, the server is asked for it by the
token that stands in the record, and in the metadata of the batch.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final, TypeVar

from selectllm import cancellation
from selectllm.errors import ModelError, ModelUnavailable, TransientError
from selectllm.llm.backoff import pause_seconds
from selectllm.llm.batch_records import BatchRecord, BatchRecords
from selectllm.llm.openai_batches import BatchApi, BatchState, Result
from selectllm.llm.usage import Usage

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_POLL_SECONDS: Final = 2.0  # between two looks at a batch; half as many again each time
MOST_POLL_SECONDS: Final = 60.0
CREATE_TRIES: Final = 3
READ_TRIES: Final = 4  # of files that lack answers which the server has counted
LOG_SECONDS: Final = 600.0  # between two lines about a batch that goes on


class BatchServer:
    """The batches of one model at one server, and their records; `patience` is how many seconds it may be out."""

    def __init__(self, api: BatchApi, records: BatchRecords, usage: Usage, patience: float) -> None:
        self._api, self._records, self._usage, self._patience = api, records, usage, patience
        self._refused_since: float | None = None  # the first batch in a row that could not be created

    async def upload(self, content: bytes) -> str:
        """Upload a file of requests; returns its id."""
        return await self.patiently(partial(self._api.upload, content))

    async def discard(self, record: BatchRecord) -> None:
        """Delete the file of a batch that is not created after all."""
        await self._api.discard(record.input_file)

    async def create(self, record: BatchRecord) -> BatchRecord:
        """Create a batch, and remember it first; returns the record with the id.

        Raises TransientError where the batch may be there, and cannot be found: its record stays. Raises ModelError.
        """
        await self._records.save(record)
        for attempt in range(1, CREATE_TRIES + 1):
            try:
                state: BatchState | None = await self._api.create(record)
            except TransientError as error:  # it may have been created all the same
                failure = error
                await asyncio.sleep(pause_seconds(attempt))
                state = await self._api.find(record)
            except ModelError:
                if attempt == 1:
                    self._records.remove(record)
                raise
            if state:
                self._refused_since = None
                record = replace(record, id=state.id)
                await self._records.save(record)
                return record
        self._refused_since = self._refused_since or time.monotonic()
        raise self._unavailable(failure) if time.monotonic() - self._refused_since > self._patience else failure

    async def find(self, record: BatchRecord) -> BatchRecord | None:
        """The record with its batch's id, which its writer died before knowing; None where there is no batch of it."""
        state = await self.patiently(partial(self._api.find, record))
        if state is None:
            self._records.remove(record)
            return None
        record = replace(record, id=state.id)
        await self._records.save(record)
        return record

    async def wait_for(self, record: BatchRecord) -> tuple[BatchState, Mapping[str, Result]]:
        """Wait until a batch is over; returns its results by the keys of the requests, all that the server gives."""
        state = await self._until_over(record)
        results: dict[str, Result] = {}
        for attempt in range(1, READ_TRIES + 1):
            results, is_whole = await self.patiently(partial(self._api.results, state))
            if is_whole:
                break
            await pause_for(pause_seconds(attempt))
        return state, results

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it works, through failures that pass; raises ModelUnavailable when they take too long."""
        started = time.monotonic()
        for attempt in count(1):
            try:
                return await call()
            except TransientError as error:
                self._usage.errors_by_kind[error.kind] += 1
                pause = max(pause_seconds(attempt), error.retry_after or 0)
                if time.monotonic() + pause - started > self._patience:
                    raise self._unavailable(error) from error
                await pause_for(pause)
        raise AssertionError("the count does not end")

    def _unavailable(self, error: TransientError) -> ModelUnavailable:
        return ModelUnavailable(
            f"the server takes no batches, and says nothing of those that it has, for {self._patience:g} s "
            f"(--give-up-after): {error}. Replies received so far are kept, and batches go on there: run again to "
            "take them up"
        )

    async def _until_over(self, record: BatchRecord) -> BatchState:
        started, told, pause, last = time.monotonic(), time.monotonic(), FIRST_POLL_SECONDS, -1
        while True:
            state = await self.patiently(partial(self._api.state, record.id))
            if state is None:
                raise ModelUnavailable(
                    f"{record.host} does not know the batch {record.id}, which a run with this store has sent: set the "
                    "key that it was sent with. Or, to have its questions asked and paid for anew, remove "
                    f"{self._records.path(record)}"
                )
            if state.is_over:
                return state
            now = time.monotonic()
            if now - told >= (MOST_POLL_SECONDS if state.completed != last else LOG_SECONDS):
                log.warning("%s", _progress(state, now - started))
                told, last = now, state.completed
            await pause_for(pause)
            pause = min(1.5 * pause, MOST_POLL_SECONDS)


async def pause_for(seconds: float) -> None:
    """Let some seconds pass; raises Stopped when the run is cancelled."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        cancellation.raise_if_cancelled()
        await asyncio.sleep(min(left, 1.0))


def _progress(state: BatchState, seconds: float) -> str:
    """How far a batch is, and how long it may still take, if it goes on as it does."""
    left = ""
    if 0 < state.completed < state.total:
        minutes = seconds * (state.total - state.completed) / state.completed / 60
        left = f"; at this pace about {minutes:,.0f} min more"
    return (
        f"the batch {state.id} is {state.status}: {state.completed:,} of {state.total:,} answers after "
        f"{seconds / 60:,.0f} min, of 24 h at most{left}"
    )
