"""A real Prefect server for the flow's tests, started once, and what it knows of a run."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

os.environ |= {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # Without heartbeats, as waiting for their thread to end is most of what a small run takes.
    with (
        prefect_test_harness(server_startup_timeout=90),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture
def ended() -> Callable[[Any], dict[str, list[str]]]:
    """The names of the states that a flow run's task runs ended in, by the task's name; the run by its id or state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    def ended(run: Any) -> dict[str, list[str]]:
        flow_run_id = run if isinstance(run, UUID) else run.state_details.flow_run_id
        ours = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        with get_client(sync_client=True) as client:
            _await_records(client)
            if run is flow_run_id:  # in another process, which tells the last of it as it ends
                time.sleep(3)
            found: dict[str, list[str]] = {}
            for task_run in client.read_task_runs(flow_run_filter=ours):
                found.setdefault(task_run.name.rsplit("-", 1)[0], []).append(task_run.state_name or "")
            return found

    return ended


def _await_records(client: Any) -> None:
    """Return once the server has recorded all that tasks have told it so far: they tell it by events, in order.

    A flow run's own state is there at once, those of its tasks up to some seconds later. A task that runs now is
    recorded after them all.
    """
    from prefect import task
    from prefect.exceptions import ObjectNotFound

    last = task(lambda: None, name="the last word", persist_result=False)(return_state=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(ObjectNotFound):
            state = client.read_task_run(last.state_details.task_run_id).state
            if state and state.is_completed():
                return
        time.sleep(0.2)
    raise TimeoutError("the server has not recorded a task run in a minute")


@pytest.fixture
def with_server() -> dict[str, str]:
    """The environment of a process that uses this session's server."""
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}


@pytest.fixture
def run_log() -> Callable[[Any, str], str]:
    """What the server has of a flow run's log, and of its tasks', once it has what is waited for."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    def run_log(run: Any, awaited: str) -> str:
        flow_run_id = run if isinstance(run, UUID) else run.state_details.flow_run_id
        found = ""
        with get_client(sync_client=True) as client:
            for _ in range(20):  # logs are sent in batches, every two seconds
                ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
                found = "\n".join(log.message for log in client.read_logs(log_filter=ours))
                if awaited in found:
                    break
                time.sleep(0.5)
        return found

    return run_log
