"""The other ways to deploy that prefect.yaml offers. docs/deploying.md says which anchors to change."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType

from deployments.local import Environment, worker
from deployments.steps import ROOT
from tests.deployments.test_deploy import DEPLOY
from tests.deployments.test_prefect_yaml import FILE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout. Its prefect.yaml can be changed."""
    ignored = shutil.ignore_patterns(
        ".venv*", ".git", ".*_cache", ".hypothesis", "__pycache__", "artifacts", "selection"
    )
    return shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored)


def exchange(checkout: Path, *, work_pool: str, pull: str) -> None:
    """Write other anchors into `shared` of prefect.yaml."""
    file = checkout / "prefect.yaml"
    text, number = re.subn(r"(?m)^    work_pool: \*\w+$", f"    work_pool: *{work_pool}", file.read_text("utf-8"))
    text, another = re.subn(r"(?m)^    pull: \*\w+$", f"    pull: *{pull}", text)
    assert (number, another) == (1, 1)
    file.write_text(text, encoding="utf-8")


def deploy(environment: Environment, checkout: Path) -> None:
    """Run the commands of `make deploy` in a checkout."""
    for command in DEPLOY:
        subprocess.run([sys.executable, "-m", *command], cwd=checkout, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_deployments_use_the_named_work_pool_and_image(
    kind: str, environment: Environment, client: SyncPrefectClient, checkout: Path
) -> None:
    exchange(checkout, work_pool=kind, pull="the_image")
    deploy(environment, checkout)
    pool = client.read_work_pool(f"selectllm-{kind}")
    assert (pool.type, pool.concurrency_limit) == (kind, 4)
    for name in ("nightly", "on-demand"):
        deployment = client.read_deployment_by_name(f"select-instructions/{name}")
        assert deployment.work_pool_name == pool.name
        assert deployment.job_variables == FILE["definitions"][kind]["job_variables"]
        assert deployment.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": "/app"}}]
        assert deployment.entrypoint == "flows/selection.py:select_instructions"


def test_a_run_works_in_its_own_clone(
    environment: Environment,
    client: SyncPrefectClient,
    checkout: Path,
    state_when: Callable[..., State[Any]],
    tmp_path: Path,
) -> None:
    exchange(checkout, work_pool="process", pull="a_clone")
    file = checkout / "prefect.yaml"
    text = file.read_text(encoding="utf-8")
    address = FILE["definitions"]["a_clone"][0]["prefect.deployments.steps.git_clone"]["repository"]
    assert text.count(address) == 1
    file.write_text(text.replace(address, f"file://{checkout}"), encoding="utf-8")
    with (checkout / "tasks" / "configuration.py").open("a", encoding="utf-8") as code:
        code.write('\nprint(f"The code is {__file__}")\n')
    for command in ("init --quiet --initial-branch main", "add .", "commit --quiet --message all"):
        us = ["-c", "user.name=us", "-c", "user.email=us@example.com"]
        subprocess.run(["git", *us, *command.split()], cwd=checkout, check=True)
    deploy(environment, checkout)

    on_demand = client.read_deployment_by_name("select-instructions/on-demand")
    run = {"pool": "examples/pool.jsonl", "budget": 7, "selector": "scripted:longest", "store": str(tmp_path / "store")}
    started = client.create_flow_run_from_deployment(on_demand.id, parameters={"run": run})
    with worker(environment, tmp_path / "worker.log"):
        ended = state_when(started.id, State.is_final, 240)
    log = (tmp_path / "worker.log").read_text(encoding="utf-8")
    assert ended.type == StateType.COMPLETED, log[-3000:]
    (code_file,) = set(re.findall(r"The code is (\S+)", log))
    assert not code_file.startswith((str(ROOT), str(checkout)))
    assert not Path(code_file).exists(), "the clone is removed after its run"
    assert (tmp_path / "store" / "v1" / "latest" / "selection.json").is_file()
