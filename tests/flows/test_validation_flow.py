"""Validation in the flow: a task at each boundary, a page for each verdict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.selection import select_instructions
from selectllm.errors import PoolError, QualityError
from selectllm.settings import RunSettings
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
Ended = Callable[[Any], dict[str, list[str]]]
pytestmark = [pytest.mark.usefixtures("quick_embedding", "validated"), pytest.mark.filterwarnings("default")]


def validations(names: dict[str, list[str]]) -> dict[str, str]:
    return {name.removeprefix("validation of "): ended[0] for name, ended in names.items() if "validation" in name}


def pages(final: Any) -> dict[str, str]:
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[final.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return {one.key or "": str(one.data) for one in client.read_artifacts(artifact_filter=ours)}


def test_each_boundary_has_a_task_and_a_page(make_run: MakeRun, ended: Ended) -> None:
    run = make_run(budget=5, quality={})
    first = select_instructions(run, return_state=True)
    boundaries = {"pool", "embeddings", "rankings"}
    assert validations(ended(first)) == dict.fromkeys(boundaries, "Completed")
    found = pages(first)
    assert all(f"**{one}**: " in found[f"validation-{one}"] for one in boundaries)
    again = select_instructions(run, return_state=True)
    assert validations(ended(again)) == dict.fromkeys(boundaries, "Cached")
    assert pages(again)["validation-rankings"] == found["validation-rankings"]


@pytest.mark.parametrize("name", BY_EVERY_DOOR)
def test_a_broken_pool_by_the_flow(name: str, make_run: MakeRun, tmp_path: Path, ended: Ended) -> None:
    case, out, docs = FILES[name], tmp_path / "out", tmp_path / "docs"
    assert isinstance(case, Case)
    quality = {"data_docs": str(docs)} if case.critical else {}
    final = select_instructions(
        make_run(pool=str(FOLDER / name), budget=1, quality=quality, out=str(out)), return_state=True
    )
    page = pages(final)["validation-pool"]
    assert all(f"| {rule} | " in page.replace("\\", "") for rule in case.failed)
    if case.critical:
        assert final.is_failed()
        assert (case.refused or case.critical[0]) in str(final.message)
        assert isinstance(final.result(raise_on_failure=False), PoolError if case.refused else QualityError)
        assert "| critical | **no** |" in page
        assert validations(ended(final)) == {"pool": "Failed"}
        assert pages_in(docs) == {"pool"}
        assert not out.exists()
    else:
        check_summed(case, out)
    check_kept(case, tmp_path / "store")


@pytest.mark.parametrize("bad", [bad_vectors, bad_ranks])
def test_what_a_contract_finds_is_shown_on_the_page(
    bad: Bad, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    boundary, rule = bad(monkeypatch)
    run = make_run(budget=5, quality={})
    final = select_instructions(run, return_state=True)
    assert final.is_failed()
    (found,) = broken_in(run.store, boundary)
    page = pages(final)[f"validation-{boundary}"]
    assert f"ids {found[rule]}, " in page
    assert "| critical | **no** |" in page


def test_great_expectations_is_imported_only_when_it_is_used(
    make_run: MakeRun, tmp_path: Path, with_server: dict[str, str]
) -> None:
    check_unused("flows.selection", make_run(), tmp_path / "own.yaml", with_server)
