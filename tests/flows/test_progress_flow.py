"""Progress is shown if possible, and delays nothing."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.logging import disable_run_logger

from selectllm.execution import note_spent
from selectllm.settings import RankingSettings, RunSettings
from tasks import progress

Shown = list[float]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Shown]:
    """The progress shown by a server that fails the given number of times to create the artifact."""
    failures: int = request.param
    shown: Shown = []

    def create(percent: float, **_: Any) -> UUID:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RuntimeError("503 Service Unavailable")
        shown.append(percent)
        return uuid4()

    monkeypatch.setattr(progress, "create_progress_artifact", create)
    monkeypatch.setattr(progress, "update_progress_artifact", lambda _, progress, **__: shown.append(progress))
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.01)
    with disable_run_logger():
        yield shown


@pytest.mark.parametrize(("shown", "shows"), [(0, [50, 100]), (1, [50, 100]), (10**9, [])], indirect=["shown"])
def test_a_busy_prefect_server_fails_no_step(shown: Shown, shows: Shown) -> None:
    with progress.progress("k", "Rows") as on_progress:
        on_progress("embeddings", 1, 2)
        time.sleep(0.1)
    assert list(dict.fromkeys(shown)) == shows


@pytest.mark.parametrize("shown", [0], indirect=True)
def test_nothing_is_sent_of_a_step_that_is_found_in_the_store(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 60.0)
    start = time.monotonic()
    with progress.progress("k", "Rows"):
        pass
    assert shown == []
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("shown", [0], indirect=True)
def test_a_step_that_has_long_been_getting_ready_is_shown(shown: Shown) -> None:
    with progress.progress("k", "Rows"):
        time.sleep(0.1)
    assert list(dict.fromkeys(shown)) == [0, 100]


@pytest.mark.parametrize("shown", [0], indirect=True)
def test_a_failed_step_is_not_shown_as_done(shown: Shown) -> None:
    def step() -> None:
        with progress.progress("k", "Rows") as on_progress:
            on_progress("embeddings", 1, 2)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        step()
    assert 100 not in shown


def test_the_page_shows_what_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptions: list[str] = []

    def create(_: float, *, key: str, description: str) -> UUID:
        descriptions.append(description)
        return uuid4()

    def update(_: UUID, progress: float, description: str) -> None:
        descriptions.append(description)

    monkeypatch.setattr(progress, "create_progress_artifact", create)
    monkeypatch.setattr(progress, "update_progress_artifact", update)
    settings = RunSettings(pool="p", budget=1, ranking=RankingSettings(price_in=1000))
    with disable_run_logger(), progress.progress("k", "Questions answered", settings) as on_progress:
        note_spent(on_progress, (1000, 0), 500, 20)
        on_progress("rankings", 1, 1)
    assert descriptions[-1] == "Questions answered; paid for 1.5k + 20 tokens, 1.50"
    with disable_run_logger(), progress.progress("k", "Rows embedded", settings) as on_progress:
        on_progress("embeddings", 1, 1)
    assert descriptions[-1] == "Rows embedded"
