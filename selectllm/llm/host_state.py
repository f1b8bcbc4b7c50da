"""A host and its health: how many questions it takes at once, how fast, and since when it answers none."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from selectllm.errors import TransientError
from selectllm.llm.backoff import RATE_LIMIT, Pace
from selectllm.llm.context_guard import LOW_COUNT
from selectllm.llm.model import ChatModel, Reply, Request

FAILURES_IN_A_ROW: Final = 5  # then a host is taken out: fewer would take a bad moment for an outage
OVERLOAD_KINDS: Final = frozenset({"timeout", "busy", RATE_LIMIT})  # errors that say that it has too much to do
DEADLINE: Final = "deadline"  # the kind of error of a question that has used up its time
SLOW: Final = (
    "%s, with %d under way: from now on it gets one question at a time, and up to %g s for it. If this goes on, raise "
    "--timeout and --deadline, lower --query-size, or choose a smaller model"
)

log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[ChatModel]]


@dataclass
class Deadline:
    """Seconds that are left for one question: for all requests, and the pauses between them, until it is answered."""

    left: float


@dataclass(eq=False)
class HostState:
    """A host: it has a `model`, or, until it answers for the first time, a way to `connect` to it."""

    most: int  # questions at once
    timeout: float  # seconds that a request may take: doubled when one took longer
    model: ChatModel | None = None
    connect: Connect | None = None
    last_error: str = ""
    in_flight: int = 0
    answers: int = 0
    failures: int = 0  # in a row
    vain_probes: int = 0  # in a row, which it answered without being ready then
    down_since: float | None = None
    is_ready: bool = False  # prepared for this run's prompts
    slowed_at: float = float("-inf")
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.limit = float(self.most)  # questions at once that it takes well: lowered when it is slow, regained slowly

    @property
    def is_free(self) -> bool:
        """Whether it can take one more question now."""
        has_place = self.down_since is None and self.in_flight < max(1, int(self.limit))
        return has_place and self.pace.is_free(time.monotonic(), self.in_flight)

    @property
    def out_since(self) -> float | None:
        """Since when it answers nothing, by time.monotonic: it is out, or refuses questions; None while it answers."""
        return self.pace.refused_since if self.down_since is None else self.down_since

    def is_out_for(self, seconds: float) -> bool:
        """Whether it has been out for longer than that, or will have been when the wait that it asked for is over."""
        if self.down_since is not None:
            return time.monotonic() - self.down_since > seconds
        return self.pace.refused_seconds > seconds

    def describe(self) -> str:
        """What is wrong with it, in a few words that name it."""
        if self.model is None or not self.last_error:
            return self.last_error
        return f"{self.model.host}: {self.last_error}"

    async def ask(self, request: Request, deadline: Deadline) -> Reply:
        """Have a request answered, within the host's timeout and what the question's deadline has left.

        Raises TransientError, ContextLengthExceeded, ModelError.
        """
        assert self.model, "a host is asked once it is ready"
        started, allowed = time.monotonic(), min(self.timeout, deadline.left)
        kind = DEADLINE if allowed < self.timeout else "timeout"
        try:
            # Clients have timeouts, too, but not for a model in this process, nor for a slow trickle.
            async with asyncio.timeout(allowed):
                return await self.model.answer(request)
        except TimeoutError:
            raise TransientError(f"{self.model.info.name} did not answer within {allowed:.1f} s", kind) from None
        finally:
            deadline.left -= time.monotonic() - started

    def on_start(self) -> None:
        """Take note that it is asked a question."""
        self.in_flight += 1
        self.pace.on_start(time.monotonic())

    def on_answer(self, started: float) -> None:
        """Take note that it answered a question that was asked then."""
        self.answers += 1
        self.failures = 0
        self.pace.on_answer(started)
        if started > self.slowed_at:
            self.limit = min(self.most, self.limit + 1 / self.limit)

    def on_failure(self, error: TransientError, started: float, most_seconds: float) -> None:
        """Take note of a failure: it may be slow, refuse questions for a while, or be about to disappear."""
        if error.kind in (DEADLINE, LOW_COUNT):  # little time was left, or the prompt is long: no fault of the host
            return
        self.last_error, now = str(error), time.monotonic()
        if error.kind in OVERLOAD_KINDS and started > self.slowed_at:  # those of before say nothing new
            self.slowed_at = now
            self.limit = 1.0 if error.kind == "timeout" else max(1.0, self.limit / 2)
            if error.kind == "timeout":
                self.timeout = min(2 * self.timeout, max(most_seconds, self.timeout))
                log.warning(SLOW, error, self.in_flight, self.timeout)
        if asks_to_wait(error):
            self.pace.on_refusal(started, now, error.retry_after, too_fast=error.kind == RATE_LIMIT)
        else:
            self.failures += 1


def asks_to_wait(error: TransientError) -> bool:
    """Whether a failure is a refusal: the host is well, and takes no questions for a while."""
    return error.kind == RATE_LIMIT or error.retry_after is not None
