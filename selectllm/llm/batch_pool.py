"""One model asked in batches, in the place of its hosts: the same checks, and a question that got no answer goes again.

A batch takes up to a day, and its answers come all at once. So there are no deadlines here, no pace and no places:
all questions of a round are asked together.
"""

import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from selectllm.errors import HostUnreachable, ModelUnavailable, SelectorUnavailable, TransientError
from selectllm.llm.backoff import pause_seconds
from selectllm.llm.batch_records import BatchRecords
from selectllm.llm.batch_server import pause_for
from selectllm.llm.batcher import Batcher
from selectllm.llm.context_guard import ContextGuard
from selectllm.llm.cost import CostLimit
from selectllm.llm.host_state import Deadline
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.llm.openai import OpenAIModel, open_openai
from selectllm.llm.usage import Usage
from selectllm.settings import RunSettings
from selectllm.store import Store

log = logging.getLogger(__name__)

PLACES: Final = 25_000
"""Questions asked at once: two times as many are begun, and these fill one batch."""


class BatchPool:
    """One model, asked in batches; `retries` is how often a question goes again that got no answer."""

    def __init__(self, batcher: Batcher, usage: Usage, retries: int) -> None:
        self.info, self.usage, self.places = batcher.info, usage, PLACES
        self._batcher, self._retries = batcher, retries
        self._guard = ContextGuard(batcher, usage)

    def deadline(self) -> Deadline:
        """How long a question may take: as long as its batch does."""
        return Deadline(math.inf)

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Do nothing: the API lets nothing be fixed."""

    @asynccontextmanager
    async def answer(
        self, request: Request, check: Callable[[], None] = lambda: None, deadline: Deadline | None = None
    ) -> AsyncIterator[tuple[Reply, int]]:
        """Give the reply of a batch, and a host's number, for a block that makes the reply durable.

        `check` is called before each batch, and may raise. `deadline` does not count. Raises as the hosts do.
        """
        for attempt in count(1):
            check()
            try:
                reply = await self._guard.answer(request)
            except TransientError as error:
                self.usage.errors_by_kind[error.kind] += 1
                if attempt > self._retries:
                    raise
            else:
                break
        with self._batcher.being_kept(request):
            yield reply, 0

    async def verify(self) -> list[int]:
        """The number of the only host: the API says nothing of the weights."""
        return [0]

    async def end(self, error: Exception) -> None:
        """Ask nothing more: questions that wait end at once, with the error. Batches go on at the server."""
        await self._batcher.end(error)

    async def close(self) -> None:
        """Release the connections."""
        await self._batcher.close()


async def open_batch_pool(
    store: Store, settings: RunSettings, info: ModelInfo, keys: ApiKeys, ledger: Ledger, limit: CostLimit
) -> BatchPool:
    """Open the settings' model for batches. Raises SelectorUnavailable, and ModelUnavailable when no server answers."""
    options, usage = settings.ranking, Usage()
    model = await _open_patiently(settings, info, keys)
    records = BatchRecords(store, info, model.host)
    return BatchPool(Batcher(model, records, ledger, limit, usage, options.give_up_after), usage, options.retries)


async def _open_patiently(settings: RunSettings, info: ModelInfo, keys: ApiKeys) -> OpenAIModel:
    """Open the model; a server that does not answer now is waited for: it did when the run began."""
    options, started = settings.ranking, time.monotonic()
    name, host = info.selector.partition(":")[2], next(iter(options.hosts), None)
    for attempt in count(1):
        try:
            model = await open_openai(name, host=host, keys=keys, timeout=options.request_seconds, mode=info.mode)
            break
        except HostUnreachable as error:
            pause = pause_seconds(attempt)
            if time.monotonic() + pause - started > options.give_up_after:
                raise ModelUnavailable(f"{error}. Waited for {options.give_up_after:g} s (--give-up-after)") from error
            log.warning("%s. The run waits", error)
            await pause_for(pause)
    if model.info.digest != info.digest:
        await model.close()
        raise SelectorUnavailable(f"{info.name} is asked in another way than when the run began: run again")
    return model
