"""One model on one host or several: retries, a deadline, a circuit breaker for each host, and an adaptive concurrency.

What can pass is tried again; what cannot is raised at once. A host that fails several times in a row is taken out and
probed until it answers again; while all are out every question waits, and its deadline stands still.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from selectllm.errors import ModelError, TransientError
from selectllm.llm.backoff import pause_seconds
from selectllm.llm.context_guard import LOW_COUNT
from selectllm.llm.model import ChatModel, ModelInfo, Reply, Request
from selectllm.llm.usage import Usage
from selectllm.settings import RankingSettings

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW: Final = 5  # then a host is taken out: fewer would take a bad moment for an outage
PROBE_SECONDS: Final = 2.0  # between two probes of a host that is out
READY_GRACE_SECONDS: Final = 5.0  # that other hosts have to be ready, too, once the first one is
OVERLOAD_KINDS: Final = frozenset({"timeout", "busy"})  # errors that say that a host has too much to do
DEADLINE: Final = "deadline"  # the kind of error of a question that has used up its time
RETRY_ONCE: Final = frozenset({"out of memory"})  # errors that pass seldom: one more try is enough to see

Connect = Callable[[], Awaitable[ChatModel]]


@dataclass
class Deadline:
    """Seconds that are left for one question: for all requests, and the pauses between them, until it is answered."""

    left: float


@dataclass
class HostState:
    """A host and its health: it has a `model`, or, until it answers for the first time, a way to `connect` to it."""

    limit: float  # questions at once that it takes well, as far as is known: halved when it is slow, regained slowly
    model: ChatModel | None = None
    connect: Connect | None = None
    in_flight: int = 0
    failures: int = 0  # in a row
    down_since: float | None = None
    is_ready: bool = False  # prepared for this run's prompts
    last_error: str = ""  # of the last probe
    slowed_at: float = float("-inf")

    @property
    def is_free(self) -> bool:
        """Whether it can take one more question."""
        return self.down_since is None and self.in_flight < max(1, int(self.limit))


class HostPool:
    """The hosts of one model: `models` on those that answer, and how to connect to those that are `absent` yet."""

    def __init__(
        self, models: Sequence[ChatModel], options: RankingSettings, info: ModelInfo, absent: Sequence[Connect] = ()
    ) -> None:
        self.info, self.usage = info, Usage()  # errors of requests and the seconds that they queued are counted here
        self.places = options.concurrency * (len(models) + len(absent))  # the most questions under way at once
        self.lowest_limit = options.concurrency
        self._hosts = [HostState(options.concurrency, model) for model in models]
        self._hosts += [HostState(options.concurrency, connect=connect) for connect in absent]
        self._options = options
        self._longest, self._max_tokens = 0, 0
        self._changed = asyncio.Condition()
        self._probes: set[asyncio.Task[None]] = set()

    @property
    def context(self) -> int | None:
        """The smallest context of all hosts, in tokens; None where nobody says."""
        models = [host.model for host in self._hosts if host.model]
        return min((model.context for model in models if model.context), default=None)

    def deadline(self) -> Deadline:
        """How long a question may take, with being asked again; it stands still while all hosts are out."""
        return Deadline(self._options.deadline)

    async def prepare(self, longest: int, max_tokens: int, *, wait: bool = True) -> None:
        """Get the hosts ready for prompts of up to `longest` bytes, and answers of up to `max_tokens` tokens.

        Returns soon after the first is ready; the others are out until they are. So are all of them while they are too
        busy, unless nobody is to `wait`. Raises ModelError when none of those that answer can be made ready.
        """
        self._longest, self._max_tokens = longest, max_tokens
        tasks = [asyncio.create_task(self._prepare_with_retries(host)) for host in self._hosts if host.model]
        pending = set(tasks)
        while pending and not any(host.is_ready for host in self._hosts):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending, timeout=READY_GRACE_SECONDS)
        for task in pending:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [result for result in results if isinstance(result, Exception)]
        fatal = [error for error in errors if not (wait and isinstance(error, TransientError))]
        if fatal and len(fatal) == len(tasks):
            raise fatal[0]
        for host in self._hosts:
            if not host.is_ready:
                self._take_out(host)
        for error in errors:
            log.warning("a host is down: %s", error)

    @asynccontextmanager
    async def answer(
        self, request: Request, check: Callable[[], None] = lambda: None, deadline: Deadline | None = None
    ) -> AsyncIterator[Reply]:
        """Give the reply of whichever host is free, for a block that holds the host's place until it ends.

        A block that makes the reply durable keeps the promise that no more replies than there are places can be lost.
        `check` is called before each try, and may raise. `deadline` is what the question's earlier requests have left.

        Raises TransientError when all tries have failed or the deadline has passed, ContextLengthExceeded, and
        ModelError for what will not pass.
        """
        deadline = deadline or self.deadline()
        attempt, has_waited = 0, False
        while True:
            if deadline.left <= 0:
                seconds = self._options.deadline
                raise TransientError(f"{self.info.name} had {seconds:g} s for a question, and took them", DEADLINE)
            async with self._free_host(check) as host:
                started = time.monotonic()
                try:
                    reply = await self._ask(host, request, deadline)
                except TransientError as error:
                    failure = error
                    self._failed(host, error.kind, started)
                else:
                    self._succeeded(host, reply, started)
                    yield reply
                    return
            if deadline.left <= 0:
                raise failure
            if not has_waited and all(host.down_since is not None for host in self._hosts):
                has_waited = True  # an outage costs a question no try, once: a host may answer probes, and nothing else
                continue
            attempt += 1
            pause = pause_seconds(attempt, failure.retry_after)
            retries = min(self._options.retries, 1) if failure.kind in RETRY_ONCE else self._options.retries
            if attempt > retries or pause >= deadline.left:
                raise failure
            await asyncio.sleep(pause)
            deadline.left -= pause

    async def wake(self, waiting: int = 2**31) -> None:
        """Have so many of the questions that wait for a host look again, in the order that they came."""
        async with self._changed:
            self._changed.notify(waiting)

    async def close(self) -> None:
        """Release all hosts."""
        for probe in self._probes:
            probe.cancel()
        for host in self._hosts:
            if host.model:
                await host.model.close()

    async def _prepare_with_retries(self, host: HostState) -> None:
        """Make a host ready, in as many tries as a question has. Raises TransientError, ModelError."""
        end = time.monotonic() + self._options.deadline
        for attempt in range(1, self._options.retries + 2):
            try:
                await self._prepare(host, end - time.monotonic())
                return
            except TransientError as error:
                pause = pause_seconds(attempt, error.retry_after)
                if attempt > self._options.retries or time.monotonic() + pause >= end:
                    raise
            await asyncio.sleep(pause)

    async def _prepare(self, host: HostState, seconds: float) -> None:
        assert host.model, "a host is made ready once it has answered"
        try:
            async with asyncio.timeout(seconds):  # weights may have to be loaded: that is more than one answer takes
                await host.model.prepare(self._longest, self._max_tokens)
        except (TransientError, TimeoutError) as error:
            failure = error if isinstance(error, TransientError) else TransientError("it took too long", "timeout")
            self.usage.errors_by_kind[failure.kind] += 1
            host.last_error = f"{self.info.name} could not be made ready: {failure}"
            raise TransientError(host.last_error, failure.kind, failure.retry_after) from None
        host.is_ready = True

    async def _ask(self, host: HostState, request: Request, deadline: Deadline) -> Reply:
        assert host.model, "a host is asked once it is ready"
        started, allowed = time.monotonic(), min(self._options.timeout, deadline.left)
        try:
            # The clients have timeouts of their own, but not for a model in this process, and not for a slow trickle.
            async with asyncio.timeout(allowed):
                return await host.model.answer(request)
        except TimeoutError:
            kind = "timeout" if allowed == self._options.timeout else DEADLINE
            raise TransientError(f"{self.info.name} did not answer within {allowed:.1f} s", kind) from None
        finally:
            deadline.left -= time.monotonic() - started

    @asynccontextmanager
    async def _free_host(self, check: Callable[[], None]) -> AsyncIterator[HostState]:
        def is_possible() -> bool:
            check()
            return any(host.is_free for host in self._hosts) or self._is_given_up()

        async with self._changed:
            await self._changed.wait_for(is_possible)
            if self._is_given_up():
                errors = "; ".join(dict.fromkeys(host.last_error for host in self._hosts if host.last_error))
                last = f". The last error: {errors}" if errors else ""
                raise ModelError(
                    f"no host of {self.info.name} has answered for {self._options.give_up_after:.0f} s. Replies "
                    f"received so far are kept: look after the server, then run again{last}"
                )
            free = [host for host in self._hosts if host.is_free]
            host = min(free, key=lambda host: host.in_flight / host.limit)
            host.in_flight += 1
        try:
            yield host
        finally:
            host.in_flight -= 1
            await self.wake(2)  # the place that is free now, and the one that a limit may have grown by

    def _is_given_up(self) -> bool:
        down = [host.down_since for host in self._hosts if host.down_since is not None]
        return len(down) == len(self._hosts) and time.monotonic() - max(down) > self._options.give_up_after

    def _succeeded(self, host: HostState, reply: Reply, started: float) -> None:
        host.failures = 0
        if started > host.slowed_at:
            host.limit = min(self._options.concurrency, host.limit + 1 / host.limit)
        if worked := reply.load_duration + reply.prompt_duration + reply.output_duration:
            self.usage.queued_seconds += max(reply.total_duration - worked, 0) / 1e9

    def _failed(self, host: HostState, kind: str, started: float) -> None:
        self.usage.errors_by_kind[kind] += 1
        # The question had little time left, or a long prompt: that says nothing of the host's health.
        if kind in (DEADLINE, LOW_COUNT):
            return
        host.failures += 1
        if kind in OVERLOAD_KINDS and started > host.slowed_at:  # requests of before the last halving say nothing new
            host.limit, host.slowed_at = max(1.0, host.limit / 2), time.monotonic()
            self.lowest_limit = min(self.lowest_limit, int(host.limit))
        if host.failures >= FAILURES_IN_A_ROW and host.down_since is None:
            self._take_out(host)

    def _take_out(self, host: HostState) -> None:
        host.down_since = time.monotonic()
        probe = asyncio.create_task(self._probe(host))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _probe(self, host: HostState) -> None:
        while not self._is_given_up():
            await asyncio.sleep(PROBE_SECONDS)
            try:
                async with asyncio.timeout(self._options.timeout):
                    if host.connect:
                        await self._reach(host, host.connect)
                    elif host.model:
                        await host.model.probe()
                if not host.is_ready:
                    await self._prepare(host, self._options.deadline)
            # Whatever it is, the host is still out: a probe that ended here would be waited for for ever.
            except Exception as error:
                host.last_error = str(error) or type(error).__name__
                await self.wake()
                continue
            host.down_since, host.failures = None, FAILURES_IN_A_ROW - 1  # one more failure takes it out again
            break
        await self.wake()

    async def _reach(self, host: HostState, connect: Connect) -> None:
        """Connect to a host that has not answered before. Raises ModelError when it has another model."""
        model = await connect()
        if model.info.digest != self.info.digest:
            await model.close()
            raise ModelError(f"the host has another version of {self.info.name}")
        host.model, host.connect = model, None
