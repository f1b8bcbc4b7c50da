"""One model on one host or several: retries, a deadline, a circuit breaker for each host, and an adaptive concurrency.

What can pass is tried again; what cannot is raised at once. A host that fails several times in a row is taken out and
probed until it answers again. A host that refuses questions is left alone for as long as it asks. While no host takes
questions every question waits, and its deadline stands still.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from selectllm.errors import ModelChanged, ModelError, TransientError
from selectllm.llm.backoff import pause_seconds
from selectllm.llm.host_state import DEADLINE, FAILURES_IN_A_ROW, Connect, Deadline, HostState, asks_to_wait
from selectllm.llm.line import Line
from selectllm.llm.model import ChatModel, ModelInfo, Reply, Request
from selectllm.llm.outage import Outage
from selectllm.llm.readiness import Readiness
from selectllm.llm.refusals import Refusals
from selectllm.llm.usage import Usage
from selectllm.settings import RankingSettings

log = logging.getLogger(__name__)

PROBE_SECONDS: Final = 2.0  # between two probes of a host that is out
MOST_PROBE_SECONDS: Final = 60.0  # between two of a host that answers in vain: each may load a model, or be paid for
VERIFY_TIMEOUT_SECONDS: Final = 5.0  # that a host has to say which model it has
READY_GRACE_SECONDS: Final = 5.0  # that other hosts have to be ready, too, once the first one is
RETRY_ONCE: Final = frozenset({"out of memory"})  # errors that pass seldom: one more try is enough to see


class HostPool:
    """The hosts of one model: `models` on those that answer; those that are `absent` yet, each with its error."""

    def __init__(
        self,
        models: Sequence[ChatModel],
        options: RankingSettings,
        info: ModelInfo,
        absent: Mapping[Connect, Exception] | None = None,
        usage: Usage | None = None,
    ) -> None:
        most, timeout, absent = options.concurrency, options.timeout, absent or {}
        self.info, self.usage = info, usage or Usage()  # errors, the seconds queued and what guards count
        self.places = most * (len(models) + len(absent))  # the most questions under way at once
        self.lowest_limit = most
        self._hosts = [HostState(most, timeout, model) for model in models]
        self._hosts += [HostState(most, timeout, None, connect, str(error)) for connect, error in absent.items()]
        self._options = options
        self._readiness = Readiness(info, options, self.usage)
        self._line, self._ended = Line(), asyncio.Event()
        self._error: Exception | None = None  # that has ended the asking
        self._background: set[asyncio.Task[None]] = set()
        self._outage = Outage(info.name, self._hosts, options.give_up_after)

    @property
    def context(self) -> int | None:
        """The smallest context of all hosts, in tokens; None where nobody says."""
        models = [host.model for host in self._hosts if host.model]
        return min((model.context for model in models if model.context), default=None)

    def deadline(self) -> Deadline:
        """How long a question may take, with being asked again; it stands still while no host takes questions."""
        return Deadline(self._options.deadline)

    async def prepare(self, longest: int, max_tokens: int, *, wait: bool = True) -> None:
        """Get the hosts ready for prompts of up to `longest` bytes, and answers of up to `max_tokens` tokens.

        Returns soon after the first is ready; the others are out until they are. So are all of them while they are too
        busy, unless nobody is to `wait`. Raises ModelError when none of those that answer can be made ready.
        """
        self._readiness.longest, self._readiness.max_tokens = longest, max_tokens
        tasks = {self._begin(self._readiness.prepare(host)): host for host in self._hosts if host.model}
        pending = set(tasks)
        while pending and not any(host.is_ready for host in self._hosts):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending, timeout=READY_GRACE_SECONDS)
        errors = [error for task in tasks if task.done() and (error := task.exception())]
        fatal = [error for error in errors if not (wait and isinstance(error, TransientError))]
        if fatal and len(fatal) == len(tasks):
            raise fatal[0]
        preparing = {id(host): task for task, host in tasks.items()}
        for host in self._hosts:
            if not host.is_ready:
                self._take_out(host, preparing.get(id(host)))

    @asynccontextmanager
    async def answer(
        self, request: Request, check: Callable[[], None] = lambda: None, deadline: Deadline | None = None
    ) -> AsyncIterator[tuple[Reply, int]]:
        """Give the reply of whichever host is free, and the host's number, for a block that holds the host's place.

        A block that makes the reply durable keeps the promise that no more replies than there are places can be lost.
        `check` is called before each try, and may raise. `deadline` is what the question's earlier requests have left.

        Raises TransientError when all tries have failed or the deadline has passed, ContextLengthExceeded, and
        ModelError for what will not pass.
        """
        deadline = deadline or self.deadline()
        attempt, has_waited, failed, refusals = 0, False, None, Refusals()
        while True:
            if deadline.left <= 0:
                seconds = self._options.deadline
                raise TransientError(f"{self.info.name} had {seconds:g} s for a question, and took them", DEADLINE)
            async with self._free_host(check, failed, refusals) as host:
                started = time.monotonic()
                try:
                    reply = await host.ask(request, deadline)
                except TransientError as error:
                    failure, failed = error, host
                    self._failed(host, error, started)
                else:
                    self._succeeded(host, reply, started)
                    yield reply, self._hosts.index(host)
                    return
            if asks_to_wait(failure):  # a refusal costs a question nothing: the host rests, and others may be free
                refusals.add(host, failure)
                if refusals.are_too_many:
                    raise failure
                continue
            if deadline.left <= 0:
                raise failure
            if not has_waited and all(host.down_since is not None for host in self._hosts):
                has_waited = True  # an outage costs a question no try, once: a host may answer probes, and nothing else
                continue
            attempt += 1
            pause = pause_seconds(attempt)
            retries = min(self._options.retries, 1) if failure.kind in RETRY_ONCE else self._options.retries
            if attempt > retries or pause >= deadline.left:
                raise failure
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), pause)
            deadline.left -= pause

    async def verify(self) -> list[int]:
        """Make sure that all hosts have the run's model still; the numbers of those that say so. Raises ModelChanged.

        Once one host had another model, it is raised each time: that host may not answer any more, or have the old one.
        """
        if isinstance(self._error, ModelChanged):
            raise self._error
        numbers = list[int]()
        for number, model in [(n, host.model) for n, host in enumerate(self._hosts) if host.model and host.is_ready]:
            try:
                async with asyncio.timeout(VERIFY_TIMEOUT_SECONDS):
                    await model.verify()
                numbers.append(number)
            except ModelChanged:
                raise
            except (ModelError, TimeoutError) as error:
                log.warning("%s does not say whether it has the same model still: %s", model.host, error or "no answer")
        return numbers

    async def end(self, error: Exception) -> None:
        """Ask nothing more: questions that wait, for a host or for their next try, end at once, with the error."""
        if self._error is None or isinstance(error, ModelChanged):  # which `verify` must know, whatever came first
            self._error = error
        self._ended.set()
        self._line.wake()

    async def close(self) -> None:
        """Release all hosts."""
        self._outage.close()
        tasks = tuple(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for host in self._hosts:
            if host.model:
                await host.model.close()

    @asynccontextmanager
    async def _free_host(
        self, check: Callable[[], None], failed: HostState | None, refusals: Refusals
    ) -> AsyncIterator[HostState]:
        """Wait for a host that takes a question, and hold a place there; of several not the one that `failed`."""

        def is_possible() -> bool:
            check()
            if self._error:
                raise self._error
            return any(host.is_free for host in self._hosts) or self._outage.is_final

        await self._line.wait_for(is_possible)
        free = [host for host in self._hosts if host.is_free]
        if not free:
            is_alone = not self._line and not any(host.in_flight for host in self._hosts)
            if is_alone and (error := refusals.error(self._options.give_up_after)):  # the others were answered
                raise error
            raise self._outage.error()
        host = min(free, key=lambda host: (host is failed, host.in_flight / host.limit))
        host.on_start()
        self._wake_when_free(host)
        try:
            yield host
        finally:
            host.in_flight -= 1
            self._line.wake()

    def _wake_when_free(self, host: HostState) -> None:
        """Have questions look again when a host has rested, if it rests."""
        if host.pace.free_at > time.monotonic():
            self._begin(self._rest(host.pace.free_at - time.monotonic()))

    async def _rest(self, seconds: float) -> None:
        """Let some seconds pass, and have questions look again now and then: the run may have been cancelled."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, PROBE_SECONDS))
            self._line.wake()

    def _succeeded(self, host: HostState, reply: Reply, started: float) -> None:
        host.on_answer(started)
        self._wake_when_free(host)
        self._outage.watch()
        if worked := reply.load_duration + reply.prompt_duration + reply.output_duration:
            self.usage.queued_seconds += max(reply.total_duration - worked, 0) / 1e9

    def _failed(self, host: HostState, error: TransientError, started: float) -> None:
        self.usage.errors_by_kind[error.kind] += 1
        host.on_failure(error, started, self._options.deadline)
        self.lowest_limit = min(self.lowest_limit, int(host.limit))
        if host.failures >= FAILURES_IN_A_ROW and host.down_since is None:
            self._take_out(host)
        self._wake_when_free(host)
        self._outage.watch()

    def _take_out(self, host: HostState, preparing: asyncio.Task[None] | None = None) -> None:
        host.down_since = time.monotonic()
        if any(other.out_since is None for other in self._hosts):  # else the outage is said, with all hosts
            log.warning("a host is out, and the others go on: %s", host.describe() or f"{self.info.name} is not ready")
        self._begin(self._probe(host, preparing))
        self._outage.watch()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in the background, until all hosts are released."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _probe(self, host: HostState, preparing: asyncio.Task[None] | None) -> None:
        error: BaseException | None = None
        if preparing:
            (error,) = await asyncio.gather(preparing, return_exceptions=True)
        while not (preparing and host.is_ready):
            if self._outage.is_final:
                self._line.wake()
                return
            asked_wait = (error.retry_after or 0) if isinstance(error, TransientError) else 0
            pause = min(PROBE_SECONDS * 2.0 ** min(host.vain_probes, 30), MOST_PROBE_SECONDS)
            await self._rest(max(pause, min(asked_wait, self._options.give_up_after)))
            try:
                await self._readiness.probe(host)
                break
            # Whatever it is, the host is still out: a probe that ended here would be waited for for ever.
            except Exception as failure:
                error, host.last_error = failure, str(failure) or type(failure).__name__
                if isinstance(failure, ModelChanged) and host.is_ready:  # it may have answered with the other model
                    await self.end(failure)
                    return
                self._line.wake()
        host.down_since, host.failures = None, FAILURES_IN_A_ROW - 1  # one more failure takes it out again
        self._outage.watch()
        self._line.wake()
