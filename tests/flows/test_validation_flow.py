"""Validation in the flow: a task at each boundary, a page for each verdict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.local import Environment
from flows.selection import select_instructions
from selectllm.errors import PoolError, QualityError
from selectllm.settings import RunSettings
from tests.flows.conftest import StateNames
from tests.quality.broken import FILES, FOLDER, Case
from tests.quality.test_validation import (
    BY_EVERY_DOOR,
    Bad,
    bad_ranks,
    bad_vectors,
    broken_in,
    check_kept,
    check_summed,
    check_unused,
    pages_in,
)

MakeRun = Callable[..., RunSettings]
TaskStates = Callable[[Any], StateNames]
Artifacts = Callable[[Any], dict[str, Any]]
QUICK = ("mostly_repeats.jsonl", "semicolons.csv")
"""A pool that fails validation, and a pool without a usable row."""

pytestmark = [pytest.mark.usefixtures("quick_embedding", "validated"), pytest.mark.filterwarnings("default")]


def validations(names: StateNames) -> dict[str, str]:
    return {name.removeprefix("validation of "): ended[0] for name, ended in names.items() if "validation" in name}


def test_each_boundary_has_a_task_and_a_page(make_run: MakeRun, task_states: TaskStates, artifacts: Artifacts) -> None:
    settings = make_run(budget=5, quality={})
    first = select_instructions(settings, return_state=True)
    boundaries = {"pool", "embeddings", "rankings"}
    assert validations(task_states(first)) == dict.fromkeys(boundaries, "Completed")
    pages = artifacts(first)
    assert all(f"**{boundary}**: " in str(pages[f"validation-{boundary}"].data) for boundary in boundaries)
    again = select_instructions(settings, return_state=True)
    assert validations(task_states(again)) == dict.fromkeys(boundaries, "Cached")
    assert artifacts(again)["validation-rankings"].data == pages["validation-rankings"].data


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in BY_EVERY_DOOR]
)
def test_the_flow_reports_a_broken_pool(
    name: str, make_run: MakeRun, tmp_path: Path, task_states: TaskStates, artifacts: Artifacts
) -> None:
    case, out, docs = FILES[name], tmp_path / "out", tmp_path / "docs"
    assert isinstance(case, Case)
    quality = {"data_docs": str(docs)} if case.critical else {}
    settings = make_run(pool=str(FOLDER / name), budget=1, quality=quality, out=str(out))
    final = select_instructions(settings, return_state=True)
    page = str(artifacts(final)["validation-pool"].data)
    assert all(f"| {rule} | " in page.replace("\\", "") for rule in case.failed)
    if case.critical:
        assert final.is_failed()
        assert (case.refused or case.critical[0]) in str(final.message)
        assert isinstance(final.result(raise_on_failure=False), PoolError if case.refused else QualityError)
        assert "| critical | **no** |" in page
        assert validations(task_states(final)) == {"pool": "Failed"}
        assert pages_in(docs) == {"pool"}
        assert not out.exists()
    else:
        check_summed(case, out)
    check_kept(case, tmp_path / "store")


@pytest.mark.parametrize("bad", [pytest.param(bad_vectors, marks=pytest.mark.slow), bad_ranks])
def test_findings_of_a_cheap_check_appear_on_the_page(
    bad: Bad, make_run: MakeRun, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    boundary, rule = bad(monkeypatch)
    settings = make_run(budget=5, quality={})
    final = select_instructions(settings, return_state=True)
    assert final.is_failed()
    (broken,) = broken_in(settings.store, boundary)
    page = str(artifacts(final)[f"validation-{boundary}"].data)
    assert f"ids {broken[rule]}, " in page
    assert "| critical | **no** |" in page


@pytest.mark.slow
def test_great_expectations_is_imported_only_when_it_is_used(
    make_run: MakeRun, tmp_path: Path, environment: Environment
) -> None:
    check_unused("flows.selection", make_run(), tmp_path / "own.yaml", environment)
