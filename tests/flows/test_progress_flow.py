"""Progress is shown where it can be, and is never in the way."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.logging import disable_run_logger

from tasks import progress

Shown = list[float]


@pytest.fixture
def busy_at_first(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Shown]:
    """A server that is too busy to make progress artifacts, so many times; gives what it shows in the end."""
    tried: list[None] = []
    shown: Shown = []

    def create(percent: float, **_: Any) -> UUID:
        tried.append(None)
        if len(tried) <= request.param:
            raise RuntimeError("503 Service Unavailable")
        shown.append(percent)
        return uuid4()

    def update(_: UUID, progress: float) -> None:
        shown.append(progress)

    async def acreate(percent: float, **named: Any) -> UUID:
        return create(percent, **named)

    async def aupdate(artifact: UUID, progress: float) -> None:
        update(artifact, progress)

    for name, told in (("create", create), ("update", update), ("acreate", acreate), ("aupdate", aupdate)):
        monkeypatch.setattr(progress, f"{name}_progress_artifact", told)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with disable_run_logger():
        yield shown


@pytest.mark.parametrize(
    ("busy_at_first", "shows"), [(0, [0, 50, 100]), (1, [50, 100]), (10**9, [])], indirect=["busy_at_first"]
)
def test_a_busy_server_costs_no_step_in_a_thread(busy_at_first: Shown, shows: Shown) -> None:
    with progress.progress("k", "Rows") as tell:
        tell("embeddings", 1, 2)
    assert busy_at_first == shows


@pytest.mark.parametrize(
    ("busy_at_first", "shows"), [(0, [0, 50, 100]), (1, [50, 100]), (10**9, [])], indirect=["busy_at_first"]
)
def test_a_busy_server_costs_no_step_in_the_event_loop(busy_at_first: Shown, shows: Shown) -> None:
    async def step() -> None:
        async with progress.async_progress("k", "Questions") as tell:
            tell("rankings", 1, 2)
            await asyncio.sleep(0.02)

    asyncio.run(step())
    assert list(dict.fromkeys(busy_at_first)) == shows
