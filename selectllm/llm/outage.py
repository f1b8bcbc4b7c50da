"""Says what a run waits for, at once and then each minute: a run that is silent looks like one that hangs."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from selectllm.llm.host_state import HostState

log = logging.getLogger(__name__)

LOG_SECONDS: Final = 60.0  # between two lines
SHORT_SECONDS: Final = 2.0  # that a host may refuse questions without a word


async def log_outage(name: str, hosts: Sequence[HostState], give_up_after: float) -> None:
    """Say again and again which hosts take no questions, why, since when, and until when they are waited for."""
    if all(host.down_since is None for host in hosts):
        await asyncio.sleep(SHORT_SECONDS)
    while True:
        states = "; ".join(_state(host, give_up_after) for host in hosts)
        log.warning("no host of %s takes questions, and the run waits: %s", name, states)
        await asyncio.sleep(LOG_SECONDS)


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


def _state(host: HostState, give_up_after: float) -> str:
    now = time.monotonic()
    since = now if host.out_since is None else host.out_since
    until = host.pace.free_at if host.down_since is None else since + give_up_after
    return f"{host.describe() or 'a host'} (since {_clock(since - now)}, waited for until {_clock(until - now)})"


def _clock(seconds: float) -> str:
    """The time of day so many seconds from now."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
