"""Validation in the flow: a task at each boundary, a page for each verdict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.selection import select_instructions
from selectllm.settings import RunSettings
from tests.broken import FILES, FOLDER
from tests.test_validation import BY_EVERY_DOOR, by_rule, summed

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
    case = FILES[name]
    run = make_run(pool=str(FOLDER / name), budget=1, quality={}, out=str(tmp_path / "out"))
    final = select_instructions(run, return_state=True)
    if isinstance(case, str):
        assert final.is_failed()
        assert case in str(final.message)
        assert ended(final) == {"pool": ["Failed"]}
    elif case.critical:
        assert final.is_failed()
        assert case.critical in str(final.message)
        assert "**no**" in pages(final)["validation-pool"]
        assert validations(ended(final)) == {"pool": "Failed"}
    else:
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert by_rule(summary["validation"]["pool"]) == by_rule(summed(case))
