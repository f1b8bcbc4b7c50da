"""The Prefect server of the session, and its records of runs."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments.local import Environment

os.environ |= {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}

StateNames = dict[str, list[str]]


@pytest.fixture(scope="session")
def environment(shared_environment: Environment) -> Environment:
    """The environment of a process that uses the session's server."""
    return shared_environment


@pytest.fixture(scope="session", autouse=True)
def prefect_settings(environment: Environment) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings

    settings = {
        PREFECT_API_URL: environment["PREFECT_API_URL"],
        PREFECT_HOME: Path(environment["PREFECT_HOME"]) / "client",
        # Most of the time of a small run is spent waiting for the heartbeat thread.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(settings):
        yield
        _send_all()


def _send_all() -> None:
    """Send all waiting logs and events."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all()


@pytest.fixture(autouse=True)
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no pages of runs of this process: Vega's scripts take seconds to put together."""
    monkeypatch.setattr("flows.selection.show_report", lambda _result: None)


@pytest.fixture
def task_states() -> Callable[[Any], StateNames]:
    """The names of the final states of a flow run's tasks, by the task's name. The run is its id or its final state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    def task_states(run: UUID | Any) -> StateNames:
        flow_run_id = run if isinstance(run, UUID) else run.state_details.flow_run_id
        of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        with get_client(sync_client=True) as client:
            _await_records(client)
            if run is flow_run_id:  # of another process, which sends its last events at its end
                time.sleep(3)
            names: StateNames = {}
            for task_run in client.read_task_runs(flow_run_filter=of_run):
                names.setdefault(task_run.name.rsplit("-", 1)[0], []).append(task_run.state_name or "")
            return names

    return task_states


def _await_records(client: Any) -> None:
    """Return once the server has recorded all events that tasks have sent so far: they come in order.

    A flow run's own state is there at once, those of its tasks up to some seconds later. A task that runs now is
    recorded after them all.
    """
    from prefect import task
    from prefect.exceptions import ObjectNotFound

    @task(name="last", persist_result=False)
    def do_nothing() -> None:
        pass

    last = do_nothing(return_state=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(ObjectNotFound):
            state = client.read_task_run(last.state_details.task_run_id).state
            if state and state.is_completed():
                return
        time.sleep(0.05)
    raise TimeoutError("the server has not recorded a task run in a minute")


@pytest.fixture
def run_log() -> Callable[[Any, str], str]:
    """The log of a flow run and its tasks, as soon as it contains an awaited text or after a time limit."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    def run_log(final: Any, awaited: str) -> str:
        of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[final.state_details.flow_run_id]))
        end, text = time.monotonic() + 10, ""
        _send_all()
        with get_client(sync_client=True) as client:
            while awaited not in text and time.monotonic() < end:
                time.sleep(0.1)
                text = "\n".join(log.message for log in client.read_logs(log_filter=of_run))
        return text

    return run_log


@pytest.fixture
def artifacts() -> Callable[[Any], dict[str, Any]]:
    """The artifacts on the page of a flow run, by key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    def artifacts(final: Any) -> dict[str, Any]:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[final.state_details.flow_run_id]))
        with get_client(sync_client=True) as client:
            return {str(artifact.key): artifact for artifact in client.read_artifacts(artifact_filter=of_run)}

    return artifacts


@pytest.fixture
def subflow_states() -> Callable[[Any], dict[str, str]]:
    """The names of the final states of a flow run's subflows, by the names of their runs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    def subflow_states(final: Any) -> dict[str, str]:
        parent = FlowRunFilterParentFlowRunId(any_=[final.state_details.flow_run_id])
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))
        return {run.name: run.state_name or "" for run in runs}

    return subflow_states
