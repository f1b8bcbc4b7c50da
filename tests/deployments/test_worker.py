"""Deployed runs on a real worker: scheduled runs, queued runs and killed runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType

from deployments.local import Environment, free_port, running, worker
from deployments.steps import ROOT
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import write_pool
from tests.deployments.test_deploy import deploy
from tests.deployments.test_images import SERVICES

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
StateWhen = Callable[..., State[Any]]


@pytest.fixture(scope="module", autouse=True)
def deployed(environment: Environment) -> None:
    deploy(environment)


@pytest.fixture
def on_store(environment: Environment, tmp_path: Path) -> Environment:
    """The environment of a worker whose runs use the store of this test."""
    return environment | {"SELECTLLM_STORE": str(tmp_path / "store")}


@pytest.fixture
def quick_pool(tmp_path: Path) -> dict[str, Any]:
    """Parameters of a run that asks no model."""
    return {"pool": str(write_pool(tmp_path / "pool.jsonl", 60)), "budget": 5, "selector": "scripted:longest"}


def slots(on_store: Environment) -> Iterator[str]:
    return (path.stem for path in (Path(on_store["SELECTLLM_STORE"]) / "v1" / "history" / "nightly").glob("*.json"))


def test_each_scheduled_run_fills_its_own_slot(
    client: SyncPrefectClient, on_store: Environment, quick_pool: dict[str, Any], state_when: StateWhen, tmp_path: Path
) -> None:
    nightly = client.read_deployment_by_name("select-instructions/nightly")
    (schedule,) = nightly.schedules
    path = f"/deployments/{nightly.id}/schedules/{schedule.id}"
    every_minute = {"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}
    client.request("PATCH", path, json=every_minute | {"parameters": {"run": quick_pool | {"history": "nightly"}}})
    try:
        with worker(on_store, tmp_path / "worker.log"):
            runs = sorted(_scheduled(client, nightly.id), key=lambda run: str(run.expected_start_time))
            for run in runs[:2]:
                assert run.auto_scheduled
                assert state_when(run.id, State.is_final, 240).type == StateType.COMPLETED
    finally:
        client.request("PATCH", path, json={"active": False, "parameters": {}})
    filled = sorted(slots(on_store))
    assert [slot[:16] for slot in filled[:2]] == [f"{run.expected_start_time:%Y%m%dT%H%M%SZ}" for run in runs[:2]]


def _scheduled(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """Runs created by the schedule. The server creates them once a minute."""
    end = time.monotonic() + 150
    while True:
        runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))
        if len(scheduled := [run for run in runs if run.auto_scheduled]) >= 2:
            return scheduled
        assert time.monotonic() < end, "the server has scheduled nothing"
        time.sleep(1)


def test_a_nightly_run_waits_for_the_run_before(
    client: SyncPrefectClient, on_store: Environment, quick_pool: dict[str, Any], state_when: StateWhen, tmp_path: Path
) -> None:
    nightly = client.read_deployment_by_name("select-instructions/nightly")
    parameters = {"run": quick_pool | {"history": "nightly"}}
    first, second = (client.create_flow_run_from_deployment(nightly.id, parameters=parameters) for _ in range(2))
    with worker(on_store, tmp_path / "worker.log"):
        ends = [state_when(run.id, State.is_final, 240) for run in (first, second)]
    assert [state.type for state in ends] == [StateType.COMPLETED] * 2
    times = [client.read_flow_run(run.id) for run in (first, second)]
    earlier, later = sorted(times, key=lambda run: run.start_time)
    assert earlier.end_time <= later.start_time
    assert {str(first.id), str(second.id)} == set(slots(on_store))


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_killed_run_is_crashed_and_continues_on_retry(
    client: SyncPrefectClient, on_store: Environment, state_when: StateWhen, tmp_path: Path, ended_by: signal.Signals
) -> None:
    nightly = client.read_deployment_by_name("select-instructions/nightly")
    with FaultyOllama(delay=0.5) as model:
        run = {
            "pool": str(write_pool(tmp_path / "pool.jsonl", 120)), "budget": 6, "selector": f"ollama:{model.model}",
            "history": "nightly", "queries": {"size": 5}, "ranking": {"hosts": [model.host], "concurrency": 2},
        }  # fmt: skip
        killed = client.create_flow_run_from_deployment(nightly.id, parameters={"run": run})
        waiting = client.create_flow_run_from_deployment(
            nightly.id, parameters={"run": run | {"selector": "scripted:longest", "ranking": {}}}
        )
        with worker(on_store, tmp_path / "worker.log") as process:
            state_when(killed.id, lambda _: len(model.asked) >= 8, 120)
            children = _children(process.pid)
            assert children
            os.kill(
                process.pid, ended_by
            )  # kill the worker first, so that it cannot report; a stopped worker ends its runs itself
            if ended_by == signal.SIGKILL:
                for child in children:
                    os.kill(child, ended_by)
            process.wait(int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")))
            assert not [child for child in children if Path(f"/proc/{child}/exe").exists()]
        crashed = state_when(killed.id, State.is_final, 180)
        assert crashed.type == StateType.CRASHED
        assert "No heartbeat" in str(crashed.message)

        replies = Path(on_store["SELECTLLM_STORE"]).rglob("*.jsonl")
        kept = sum(path.read_bytes().count(b"\n") for path in replies)
        before = len(model.asked)
        client.set_flow_run_state(killed.id, State(type=StateType.SCHEDULED, name="AwaitingRetry"), force=True)
        with worker(on_store, tmp_path / "worker.log"):
            for flow_run_id in (killed.id, waiting.id):
                state_when(flow_run_id, lambda state: state.type == StateType.COMPLETED, 240)
        in_all = sum(path.read_bytes().count(b"\n") for path in Path(on_store["SELECTLLM_STORE"]).rglob("*.jsonl"))
    assert kept >= 6
    assert len(model.asked) - before <= in_all - kept, "no durable reply is requested again"
    assert {str(killed.id), str(waiting.id)} == set(slots(on_store))


def test_a_killed_comparison_and_its_cell_are_crashed_and_go_on_on_retry(
    client: SyncPrefectClient, on_store: Environment, state_when: StateWhen, tmp_path: Path
) -> None:
    on_demand = client.read_deployment_by_name("compare-selections/on-demand")
    with FaultyOllama(delay=0.5) as model:
        comparison = {
            "pool": str(write_pool(tmp_path / "pool.jsonl", 120)), "budgets": [6], "strategies": ["selectllm"],
            "selectors": [f"ollama:{model.model}"], "seeds": 2, "queries": {"size": 5},
            "ranking": {"hosts": [model.host], "concurrency": 2},
        }  # fmt: skip
        killed = client.create_flow_run_from_deployment(on_demand.id, parameters={"comparison": comparison})
        with worker(on_store, tmp_path / "worker.log") as process:
            state_when(killed.id, lambda _: len(model.asked) >= 8, 120)
            for number in (process.pid, *_children(process.pid)):
                os.kill(number, signal.SIGKILL)
        of_killed = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[killed.id]))
        (cell,) = [run for run in client.read_flow_runs(flow_run_filter=of_killed) if run.state_name == "Running"]
        for flow_run_id in (killed.id, cell.id):
            assert state_when(flow_run_id, State.is_final, 180).type == StateType.CRASHED

        client.set_flow_run_state(killed.id, State(type=StateType.SCHEDULED, name="AwaitingRetry"), force=True)
        with worker(on_store, tmp_path / "worker.log"):
            state_when(killed.id, lambda state: state.type == StateType.COMPLETED, 240)


def _children(process: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def test_a_run_whose_host_is_wrong_fails_with_one_line(
    client: SyncPrefectClient, on_store: Environment, quick_pool: dict[str, Any], state_when: StateWhen, tmp_path: Path
) -> None:
    on_demand = client.read_deployment_by_name("select-instructions/on-demand")
    host = f"http://127.0.0.1:{free_port()}"
    run = quick_pool | {"selector": "ollama:llama3.1:8b", "ranking": {"hosts": [host]}}
    started = client.create_flow_run_from_deployment(on_demand.id, parameters={"run": run})
    with worker(on_store, tmp_path / "worker.log"):
        ended = state_when(started.id, State.is_final, 240)
    log = (tmp_path / "worker.log").read_text(encoding="utf-8")
    assert ended.type == StateType.FAILED, log[-3000:]
    assert host in str(ended.message)
    assert "\n" not in str(ended.message)
    assert host in log
    assert "Traceback" not in log


def test_a_run_whose_parameters_are_not_allowed_says_so_without_a_traceback(
    client: SyncPrefectClient, on_store: Environment, quick_pool: dict[str, Any], state_when: StateWhen, tmp_path: Path
) -> None:
    on_demand = client.read_deployment_by_name("select-instructions/on-demand")
    parameters = {"run": quick_pool | {"selector": "nope:longest", "store": "s3://user:planted@bucket"}}
    started = client.create_flow_run_from_deployment(on_demand.id, parameters=parameters)
    with worker(on_store, tmp_path / "worker.log"):
        ended = state_when(started.id, State.is_final, 240)
    log = (tmp_path / "worker.log").read_text(encoding="utf-8")
    assert ended.type == StateType.FAILED, log[-3000:]
    assert "nope:longest" in log
    for text in ("Traceback", "Parameter validation failed", "planted"):
        assert text not in log


def test_the_worker_of_the_image_is_healthy(environment: Environment, tmp_path: Path) -> None:
    dockerfile = (ROOT / "deployments" / "Dockerfile").read_text(encoding="utf-8")
    check, command = (json.loads(text) for text in re.findall(r"(?m)^ *CMD (\[.*\])$", dockerfile))
    port = str(free_port())
    elsewhere = environment | {"PREFECT_WORKER_WEBSERVER_PORT": port}
    asked = [sys.executable, *check[1:-1], check[-1].replace("8080", port)]
    assert asked[-1] != check[-1]
    with running(command[1:], elsewhere, tmp_path / "worker.log") as process:
        end = time.monotonic() + 60
        while subprocess.run(asked, capture_output=True, check=False).returncode:
            assert time.monotonic() < end, (tmp_path / "worker.log").read_text(encoding="utf-8")
            time.sleep(1)
        assert process.poll() is None
