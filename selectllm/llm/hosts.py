"""One model on one host or several, asked with patience: retries, a deadline, a circuit for each host, and only as many
questions at once as the hosts take well.

What can pass is tried again; what cannot is raised at once. A host that fails several times in a row is left out and
probed until it answers again; while all are left out every question waits, and its deadline stands still.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from selectllm.errors import ModelError, TransientError
from selectllm.llm.absent import AbsentModel
from selectllm.llm.model import ChatModel, ModelInfo, Reply, Request

log = logging.getLogger(__name__)

BACKOFF: Final = 0.5
"""Seconds before the second try; doubled before each further one up to `LONGEST_BACKOFF`, and spread by chance."""

LONGEST_BACKOFF: Final = 30.0

FAILURES_IN_A_ROW: Final = 5
"""After so many a host is left out: fewer would take a bad moment for an outage."""

PROBE_EVERY: Final = 2.0
"""Seconds between two probes of a host that is left out."""

READY_GRACE_SECONDS: Final = 5.0
"""Seconds that other hosts have to be ready, too, once the first one is."""

OVERLOAD_KINDS: Final = frozenset({"timeout", "busy"})
"""Failures that say that a host has too much to do."""

LATE: Final = "deadline"
"""The kind of failure of a question that has used up its time."""

ONCE: Final = frozenset({"out of memory"})
"""Failures that pass seldom: one more try is enough to see."""


@dataclass
class HostState:
    """A host, and how it bears up."""

    model: ChatModel
    limit: float  # questions at once that it takes well, as far as is known: halved when it is slow, regained slowly
    under_way: int = 0
    failures: int = 0  # in a row
    left_out_since: float | None = None
    is_ready: bool = False  # made ready for this run's prompts
    trouble: str = ""  # what the last probe met with
    slowed_at: float = field(default=float("-inf"))

    @property
    def is_free(self) -> bool:
        """Whether it can take one question more."""
        return self.left_out_since is None and self.under_way < max(1, int(self.limit))


@dataclass
class Deadline:
    """Seconds that are left for one question: for all requests, and the pauses between them, until it is answered."""

    left: float


class HostPool:
    """The hosts of one model.

    Parameters: `card`, who it is, when the first host cannot tell; `concurrency`, the most questions under way on each
    host; `timeout`, seconds of one request; `deadline`, seconds of all requests and pauses of one question; `retries`,
    further tries after failures that can pass; `give_up_after`, seconds that all hosts may be out before the run is
    given up.
    """

    def __init__(
        self,
        models: Sequence[ChatModel],
        *,
        concurrency: int,
        card: ModelInfo | None = None,
        timeout: float = 120.0,
        deadline: float = 600.0,
        retries: int = 4,
        give_up_after: float = 900.0,
    ) -> None:
        self.card = card or models[0].card
        self.faults: Counter[str] = Counter()
        self.queued = 0.0  # seconds that requests waited in the hosts' own queues, by the hosts' own account
        self.lowest_limit = concurrency
        self._lanes = [HostState(model, float(concurrency)) for model in models]
        self._concurrency = concurrency
        self._timeout, self._deadline = timeout, deadline
        self._retries, self._give_up_after = retries, give_up_after
        self._longest, self._room = 0, 0
        self._changed = asyncio.Condition()
        self._probes: set[asyncio.Task[None]] = set()

    @property
    def context(self) -> int | None:
        """The smallest context of all hosts; None where nobody tells."""
        return min((lane.model.context for lane in self._lanes if lane.model.context), default=None)

    async def prepare(self, longest: int, room: int, *, wait: bool = True) -> None:
        """Get the hosts ready for prompts of up to `longest` bytes, and answers of up to `room` tokens.

        Returns soon after the first is; the others are left out until they are. So are all of them while they are too
        busy, unless nobody is to `wait`. Raises ModelError when none of those that are there can be made ready.
        """
        self._longest, self._room = longest, room
        there = {
            asyncio.create_task(self._patiently(lane)): lane
            for lane in self._lanes
            if not isinstance(lane.model, AbsentModel)
        }
        pending = set(there)
        while pending and not any(lane.is_ready for lane in self._lanes):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending, timeout=READY_GRACE_SECONDS)
        for task in pending:
            task.cancel()
        results = await asyncio.gather(*there, return_exceptions=True)
        errors = [one for one in results if isinstance(one, Exception)]
        fatal = [one for one in errors if not (wait and isinstance(one, TransientError))]
        if fatal and len(fatal) == len(there):
            raise fatal[0]
        for lane in self._lanes:
            if not lane.is_ready:
                self._leave_out(lane)
        for error in errors:
            log.warning("a host is left out: %s", error)

    def patience(self) -> Deadline:
        """How long a question may take, with being asked again; it stands still while all hosts are out."""
        return Deadline(self._deadline)

    @property
    def places(self) -> int:
        """The most questions under way at once, on all hosts together."""
        return self._concurrency * len(self._lanes)

    async def answer(
        self,
        request: Request,
        may_ask: Callable[[], None] = lambda: None,
        keep: Callable[[Reply], Awaitable[None]] | None = None,
        patience: Deadline | None = None,
    ) -> Reply:
        """Answer one request, on whichever host is free; `may_ask` is called before each try, and may raise.

        `keep` makes the reply durable before its place is free for another request: so no more replies than there are
        places can be lost at once. `patience` is what the question's earlier requests have left of the deadline.

        Raises TransientError when all tries have failed or the deadline has passed, ContextLengthExceeded, and ModelError for
        what will not pass.
        """
        patience = patience or self.patience()
        attempt, waited = 0, False
        while True:
            if patience.left <= 0:
                raise TransientError(f"{self.card.name} had {self._deadline:g} s for a question, and took them", LATE)
            async with self._free_lane(may_ask) as lane:
                started = time.monotonic()
                try:
                    reply = await self._once(lane, request, patience)
                except TransientError as error:
                    failure = error
                    self._failed(lane, error.kind, started)
                else:
                    self._succeeded(lane, reply, started)
                    if keep:
                        await keep(reply)
                    return reply
            if patience.left <= 0:
                raise failure
            if not waited and all(lane.left_out_since is not None for lane in self._lanes):
                waited = True  # an outage costs a question no try, once: a host may answer probes, and nothing else
                continue
            attempt += 1
            pause = min(BACKOFF * 2 ** (attempt - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.0)
            retries = min(self._retries, 1) if failure.kind in ONCE else self._retries
            if attempt > retries or pause >= patience.left:
                raise failure
            await asyncio.sleep(pause)
            patience.left -= pause

    async def close(self) -> None:
        """Let go of all hosts."""
        for probe in self._probes:
            probe.cancel()
        for lane in self._lanes:
            await lane.model.close()

    async def _patiently(self, lane: HostState) -> None:
        """Make a host ready, in as many tries as a question has. Raises TransientError, ModelError."""
        end = time.monotonic() + self._deadline
        for attempt in range(1, self._retries + 2):
            try:
                return await self._make_ready(lane, end - time.monotonic())
            except TransientError:
                pause = BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                if attempt > self._retries or time.monotonic() + pause >= end:
                    raise
            await asyncio.sleep(pause)
        return None

    async def _make_ready(self, lane: HostState, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):  # weights may have to be loaded: that is more than one answer takes
                await lane.model.prepare(self._longest, self._room)
        except (TransientError, TimeoutError) as error:
            kind = getattr(error, "kind", "timeout")
            self.faults[kind] += 1
            lane.trouble = f"{self.card.name} could not be made ready: {str(error) or 'it took too long'}"
            raise TransientError(lane.trouble, kind) from None
        lane.is_ready = True

    async def _once(self, lane: HostState, request: Request, patience: Deadline) -> Reply:
        started, allowed = time.monotonic(), min(self._timeout, patience.left)
        try:
            # The clients have timeouts of their own, but not on an app in this process, and not on a slow trickle.
            async with asyncio.timeout(allowed):
                return await lane.model.answer(request)
        except TimeoutError:
            kind = "timeout" if allowed == self._timeout else LATE
            raise TransientError(f"{self.card.name} did not answer within {allowed:.1f} s", kind) from None
        finally:
            patience.left -= time.monotonic() - started

    @asynccontextmanager
    async def _free_lane(self, may_ask: Callable[[], None]) -> AsyncIterator[HostState]:
        def is_there() -> bool:
            may_ask()
            return any(lane.is_free for lane in self._lanes) or self._is_given_up()

        async with self._changed:
            await self._changed.wait_for(is_there)
            if self._is_given_up():
                heard = "; ".join(dict.fromkeys(lane.trouble for lane in self._lanes if lane.trouble))
                raise ModelError(
                    f"no host of {self.card.name} has answered for {self._give_up_after:.0f} s. "
                    "Replies received so far are kept: look after the server, then run again"
                    + (f". Last heard: {heard}" if heard else "")
                )
            lane = min((lane for lane in self._lanes if lane.is_free), key=lambda lane: lane.under_way / lane.limit)
            lane.under_way += 1
        try:
            yield lane
        finally:
            lane.under_way -= 1
            await self._tell(2)  # the place that is free now, and the one that a limit may have grown by

    def _is_given_up(self) -> bool:
        out = [lane.left_out_since for lane in self._lanes if lane.left_out_since is not None]
        return len(out) == len(self._lanes) and time.monotonic() - max(out) > self._give_up_after

    def _succeeded(self, lane: HostState, reply: Reply, started: float) -> None:
        lane.failures = 0
        if started > lane.slowed_at:
            lane.limit = min(self._concurrency, lane.limit + 1 / lane.limit)
        worked = reply.load_duration + reply.prompt_duration + reply.output_duration
        if worked:
            self.queued += max(reply.total_duration - worked, 0) / 1e9

    def _failed(self, lane: HostState, kind: str, started: float) -> None:
        self.faults[kind] += 1
        if kind == LATE:  # the question had little time left, which says nothing of the host
            return
        lane.failures += 1
        if kind in OVERLOAD_KINDS and started > lane.slowed_at:  # requests of before the last halving say nothing new
            lane.limit, lane.slowed_at = max(1.0, lane.limit / 2), time.monotonic()
            self.lowest_limit = min(self.lowest_limit, int(lane.limit))
        if lane.failures >= FAILURES_IN_A_ROW and lane.left_out_since is None:
            self._leave_out(lane)

    def _leave_out(self, lane: HostState) -> None:
        lane.left_out_since = time.monotonic()
        probe = asyncio.create_task(self._probe(lane))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _probe(self, lane: HostState) -> None:
        while not self._is_given_up():
            await asyncio.sleep(PROBE_EVERY)
            try:
                async with asyncio.timeout(self._timeout):
                    await lane.model.probe()
                if isinstance(lane.model, AbsentModel) and lane.model.card.digest != self.card.digest:
                    await lane.model.forget()  # its answers would not be this model's
                    raise ModelError(f"the host has another version of {self.card.name}")
                if not lane.is_ready:
                    await self._make_ready(lane, self._deadline)
            # Whatever it is, the host is still out: a probe that ended here would be waited for for ever.
            except Exception as error:
                lane.trouble = str(error) or type(error).__name__
                await self._tell()
                continue
            lane.left_out_since, lane.failures = None, FAILURES_IN_A_ROW - 1  # one more failure leaves it out again
            break
        await self._tell()

    async def _tell(self, waiting: int = 2**31) -> None:
        """Have so many of those that wait look again, in the order that they came."""
        async with self._changed:
            self._changed.notify(waiting)
