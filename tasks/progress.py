"""Shows how far a step is, as a progress artifact on the run's page."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from prefect.artifacts import (
    acreate_progress_artifact,
    aupdate_progress_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger

from selectllm.steps import Progress

EVERY = 2.0
"""Seconds between two updates: each is a request to the server."""


@contextmanager
def progress(key: str, description: str) -> Iterator[Progress]:
    """Progress of a step that works in a thread of its own."""
    artifact: UUID | None = None

    def show(percent: float) -> None:
        nonlocal artifact
        with _never_in_the_way():
            if artifact:
                update_progress_artifact(artifact, progress=percent)
            else:
                artifact = create_progress_artifact(percent, key=key, description=description)

    show(0.0)
    updated = time.monotonic()

    def tell(_step: str, done: int, total: int) -> None:
        nonlocal updated
        if time.monotonic() - updated >= EVERY:
            updated = time.monotonic()
            show(100 * done / max(total, 1))

    yield tell
    show(100.0)


@asynccontextmanager
async def async_progress(key: str, description: str) -> AsyncIterator[Progress]:
    """Progress of a step that works in the event loop, which an update must not hold up."""
    artifact: UUID | None = None
    percent = 0.0

    async def show() -> None:
        nonlocal artifact
        with _never_in_the_way():
            if artifact:
                await aupdate_progress_artifact(artifact, progress=percent)
            else:
                artifact = await acreate_progress_artifact(percent, key=key, description=description)

    def tell(_step: str, done: int, total: int) -> None:
        nonlocal percent
        percent = 100 * done / max(total, 1)

    async def update() -> None:
        while True:
            await asyncio.sleep(EVERY)
            await show()

    await show()
    updating = asyncio.create_task(update())
    try:
        yield tell
    finally:
        updating.cancel()
    percent = 100.0
    await show()


@contextmanager
def _never_in_the_way() -> Iterator[None]:
    """A server too busy to hear of progress is no reason to lose the work."""
    try:
        yield
    except Exception as error:
        get_run_logger().warning("Progress could not be shown: %s", error)
