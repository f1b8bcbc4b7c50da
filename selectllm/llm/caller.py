"""A durable caller of one model: each request is looked up in the ledger first; each reply is kept before it counts."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from selectllm import cancellation
from selectllm.errors import ContentRefused, ContextLengthExceeded, ModelChanged, RunError, Stopped, TransientError
from selectllm.llm import open_model
from selectllm.llm.context_guard import LOW_COUNT
from selectllm.llm.cost import NO_LIMIT
from selectllm.llm.cost import CostLimit as CostLimit
from selectllm.llm.host_state import Deadline
from selectllm.llm.hosts import HostPool
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger import Ledger
from selectllm.llm.ledger_lines import Entry
from selectllm.llm.model import ModelInfo, Request
from selectllm.llm.speed import BYTES_PER_TOKEN, Speed, time_warning
from selectllm.settings import RankingSettings, RunSettings
from selectllm.store import Store

if TYPE_CHECKING:
    from selectllm.llm.batch_pool import BatchPool

log = logging.getLogger(__name__)

VERIFY_SECONDS: Final = 180.0  # between two looks at whether the model is still the same
GRACE_SECONDS: Final = 5.0  # that replies under way may still take when a run is cancelled, and without a word


@dataclass(frozen=True)
class LongestRequest:
    """The most that one request takes: bytes of UTF-8 of a prompt, and tokens of an answer."""

    prompt_bytes: int
    max_tokens: int


class Caller:
    """Asks one model, on all its hosts; `usage` counts what that takes, `places` is how many requests run at once."""

    def __init__(self, hosts: "HostPool | BatchPool", ledger: Ledger, limit: CostLimit = NO_LIMIT) -> None:
        self.info, self.usage, self.places = hosts.info, hosts.usage, hosts.places
        self._hosts, self._ledger, self._limit = hosts, ledger, limit
        self._in_flight: dict[str, asyncio.Task[Entry]] = {}  # by the key of the request
        self._unverified: dict[int, list[Entry]] = {}  # by the host's number: replies since the last look at its model

    def deadline(self) -> Deadline:
        """How long a question may take, with all its requests; it stands still while all hosts are out."""
        return self._hosts.deadline()

    async def ask(self, request: Request, deadline: Deadline | None = None) -> Entry:
        """Have a question answered: by the ledger if it was asked before, else by the model.

        The same question, asked while the first is under way, gets the same reply: rows can look alike once clipped.
        `deadline` is what the question's earlier requests have left. Raises TransientError when all tries have failed,
        ContextLengthExceeded, ModelError, CostExceeded, Stopped, and StoreError when the reply cannot be kept.
        """
        key = request.key(self.info)
        entry = self._ledger.get(key)
        if entry is None:  # in a task of its own: when another question ends the run, this reply is kept all the same
            task = self._in_flight.get(key)
            if task is None:
                task = self._in_flight[key] = asyncio.create_task(self._ask_and_keep(request, deadline))
                task.add_done_callback(partial(self._on_done, key))
            entry = await asyncio.shield(task)
        self.usage.replies += 1
        self.usage.prompt_tokens += entry.reply.prompt_tokens
        self.usage.output_tokens += entry.reply.output_tokens
        return entry

    def may_ask_again(self, entry: Entry) -> bool:
        """Whether a question may be asked once more if this reply cannot be used: see `Ledger`."""
        return self._ledger.may_ask_again(entry)

    async def verify(self) -> None:
        """Make sure that the model is still the same; raises ModelChanged, with which all questions end then."""
        replies = {host: len(entries) for host, entries in self._unverified.items()}
        try:
            verified = await self._hosts.verify()
        except ModelChanged as error:
            await self._hosts.end(error)
            raise
        for host in verified:
            del self._unverified.get(host, [])[: replies.get(host, 0)]

    async def verify_from_time_to_time(self) -> None:
        """Make sure again and again, until cancelled; returns when it is another."""
        with suppress(ModelChanged):
            while True:
                await asyncio.sleep(VERIFY_SECONDS)
                await self.verify()

    async def retract(self, error: ModelChanged) -> ModelChanged:
        """Have the replies since the last look at the model count no more, and say so."""
        unused = ""
        entries = [entry for entries in self._unverified.values() for entry in entries]
        if entries:
            since = min(entry.at for entry in entries)
            await self._ledger.retract([entry.key for entry in entries], since)
            clock = time.strftime("%H:%M:%S", time.localtime(since / 1e9))
            unused = f"{len(entries)} replies, those since {clock}, are not used; all others are kept. "
        return ModelChanged(f"{error}. {unused}Run again to go on with the model as it is now")

    async def drain(self, seconds: float, error: BaseException | None = None) -> None:
        """Ask nothing more, and keep what still comes within some seconds: it is paid for. A long wait is logged."""
        await self._hosts.end(Stopped("the asking has ended"))
        if self._in_flight:
            _, late = await asyncio.wait(self._in_flight.values(), timeout=min(seconds, GRACE_SECONDS))
            if late and seconds > GRACE_SECONDS:
                log.warning("the run ends: %s. It waits up to %g s for %d replies under way", error, seconds, len(late))
                await asyncio.wait(late, timeout=seconds - GRACE_SECONDS)
        tasks = tuple(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, key: str, task: asyncio.Task[Entry]) -> None:
        del self._in_flight[key]
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains of it where nobody waits for this reply any more

    async def _ask_and_keep(self, request: Request, deadline: Deadline | None) -> Entry:
        try:
            async with self._hosts.answer(request, self._check, deadline) as (reply, host):
                self.usage.pay_for(reply)
                entry = await self._ledger.add(request, self.info, reply)
                self._unverified.setdefault(host, []).append(entry)
                return entry
        except TransientError as error:
            if error.kind == LOW_COUNT:  # and no try is left to see whether it is cut each time: half of it may fit
                raise ContextLengthExceeded(str(error)) from error
            raise
        except (ContextLengthExceeded, ContentRefused):  # of this question alone, as those that can pass are
            raise
        except Exception as error:  # ends the run: what is asked now would be paid for, and waited for, in vain
            await self._hosts.end(error)
            raise

    def _check(self) -> None:
        cancellation.raise_if_cancelled()
        self._limit.check(self.usage)


@asynccontextmanager
async def open_caller(
    store: Store, settings: RunSettings, info: ModelInfo, longest: LongestRequest, limit: CostLimit, keys: ApiKeys
) -> AsyncIterator[Caller]:
    """The model of the settings' selector, ready for the longest request, with all that it ever answered.

    Raises SelectorUnavailable when it is no longer the model of `info`, ModelError when it cannot be made ready.
    """
    with cancellation.cancel_on_signal():
        async with AsyncExitStack() as closing:
            ledger = Ledger(store, info, reask=settings.ranking.reask)
            hosts: HostPool | BatchPool
            if settings.ranking.batch:
                from selectllm.llm.batch_pool import open_batch_pool

                hosts = await open_batch_pool(store, settings, info, keys, ledger, limit)
            else:
                hosts = await open_model(settings.selector, settings.ranking, keys, expected=info)
            closing.push_async_callback(hosts.close)
            await hosts.prepare(longest.prompt_bytes, longest.max_tokens)
            closing.push_async_callback(ledger.close)
            _warn_of_slowness(ledger, longest, settings.ranking)
            caller = Caller(hosts, ledger, limit)
            verifying = asyncio.create_task(caller.verify_from_time_to_time())
            try:
                yield caller
            except BaseException as error:
                is_interrupted = isinstance(error, Stopped) or not isinstance(error, Exception)
                seconds = GRACE_SECONDS if is_interrupted else settings.ranking.timeout
                await caller.drain(seconds, error)
                if isinstance(error, RunError):
                    error.paid = caller.usage.paid_prompt_tokens, caller.usage.paid_output_tokens
                raise
            finally:
                verifying.cancel()
                try:
                    await caller.verify()
                except ModelChanged as error:
                    raise await caller.retract(error) from None


def _warn_of_slowness(ledger: Ledger, longest: LongestRequest, options: RankingSettings) -> None:
    """Say so before a run in which, by the model's earlier replies, the longest question has too little time."""
    speed, tokens = Speed.of(ledger.latest_replies()), longest.prompt_bytes / BYTES_PER_TOKEN
    if speed and (warning := time_warning(seconds := speed.seconds(tokens, 0), options)):
        log.warning("the longest question takes about %.0f s, by earlier replies: %s", seconds, warning)
