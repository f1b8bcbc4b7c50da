"""While no host takes questions: what a run waits for, said at once and then each minute, and when it gives up."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from selectllm.errors import ModelUnavailable
from selectllm.llm.host_state import HostState

log = logging.getLogger(__name__)

LOG_SECONDS: Final = 60.0  # between two lines
SHORT_SECONDS: Final = 2.0  # that hosts may refuse questions without a word


class Outage:
    """Watches whether any host of a model takes questions; a run that is silent for long looks like one that hangs."""

    def __init__(self, name: str, hosts: Sequence[HostState], give_up_after: float) -> None:
        self._name, self._hosts, self._give_up_after = name, hosts, give_up_after
        self._logging: asyncio.Task[None] | None = None

    @property
    def is_final(self) -> bool:
        """Whether all hosts have been out for so long, or refuse questions for so long, that nobody waits for them."""
        return all(host.is_out_for(self._give_up_after) for host in self._hosts)

    def error(self) -> ModelUnavailable:
        """What ends the run when the outage is final."""
        seconds = f"{self._give_up_after:g} s"
        is_silent = all(host.down_since is not None for host in self._hosts)
        what = f"has answered for {seconds}" if is_silent else f"takes questions within {seconds} (--give-up-after)"
        advice = "look after the server, then run again" if is_silent else "run again when it takes them"
        errors = "; ".join(dict.fromkeys(text for host in self._hosts if (text := host.describe())))
        last = f". The last error: {errors}" if errors else ""
        return ModelUnavailable(f"no host of {self._name} {what}. Replies received so far are kept: {advice}{last}")

    def watch(self) -> None:
        """Have it said from now on that no host takes questions, or no longer, as the hosts are now."""
        is_out = all(host.out_since is not None for host in self._hosts)
        if is_out and self._logging is None:
            self._logging = asyncio.create_task(self._log())
        elif not is_out:
            self.close()

    def close(self) -> None:
        """Say nothing more."""
        if self._logging:
            self._logging.cancel()
            self._logging = None

    async def _log(self) -> None:
        if all(host.down_since is None for host in self._hosts):
            await asyncio.sleep(SHORT_SECONDS)
        while True:
            states = "; ".join(self._describe(host) for host in self._hosts)
            log.warning("no host of %s takes questions, and the run waits: %s", self._name, states)
            await asyncio.sleep(LOG_SECONDS)

    def _describe(self, host: HostState) -> str:
        now = time.monotonic()
        since = now if host.out_since is None else host.out_since
        until = host.pace.free_at if host.down_since is None else since + self._give_up_after
        return f"{host.describe() or 'a host'} (since {_clock(since - now)}, waited for until {_clock(until - now)})"


@asynccontextmanager
async def log_waiting(what: str, limit: str) -> AsyncIterator[None]:
    """Say each minute, while a block runs, that something takes its time, how long so far and what its limit is."""
    task = asyncio.create_task(_log_waiting(what, limit))
    try:
        yield
    finally:
        task.cancel()


async def _log_waiting(what: str, limit: str) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(LOG_SECONDS)
        log.warning("%s: %.0f s so far, of %s", what, time.monotonic() - started, limit)


def _clock(seconds: float) -> str:
    """The time of day so many seconds from now."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
