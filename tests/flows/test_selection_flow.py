"""The flow on a real Prefect server: its selection, its page, and the results that it shares with the library."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from flows.selection import select_instructions
from selectllm import select
from selectllm.errors import UsageError
from selectllm.llm.model import Request
from selectllm.settings import RunSettings
from tests.conftest import FakeModel, by_id
from tests.flows.conftest import StateNames

MakeRun = Callable[..., RunSettings]
TaskStates = Callable[[Any], StateNames]
STEPS = {"pool", "embeddings", "queries", "rankings", "tournament", "preferences", "selection"}
pytestmark = [
    pytest.mark.usefixtures("quick_embedding"),
    # Prefect's own code warns under Python 3.11 and later; ours must not.
    pytest.mark.filterwarnings("default"),
]


def steps_in(state: str, names: StateNames) -> set[str]:
    return {step for step in STEPS if names[step] == [state]}


def test_the_flow_selects_like_the_library_and_shows_each_step(
    make_run: MakeRun,
    task_states: TaskStates,
    artifacts: Callable[[Any], dict[str, Any]],
    run_log: Callable[[Any, str], str],
    tmp_path: Path,
) -> None:
    settings = make_run(budget=7, out=str(tmp_path / "out"))
    as_the_form_sends_it: Any = settings.model_dump(mode="json")
    results = tmp_path / "results"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: results}):
        final = select_instructions(as_the_form_sends_it, return_state=True)
    assert not list(results.rglob("*")), "Prefect stores nothing of a successful run"
    apart = settings.model_copy(update={"store": str(tmp_path / "another store"), "out": str(tmp_path / "out2")})
    assert final.result()["artifacts"] == select(apart).summary["artifacts"]
    for name in ("selection.jsonl", "selection.parquet", "quarantine.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()
    assert steps_in("Completed", task_states(final)) == STEPS
    page = artifacts(final)
    assert {"selection-summary", "selection", "embeddings-progress", "rankings-progress"} <= set(page)
    assert (page["rankings-progress"].type, page["selection"].type) == ("progress", "table")
    assert "Chose 7 of 60 rows" in str(page["selection-summary"].data)
    assert "fixed rule" in str(page["selection-summary"].data)

    # Only the damaged artifact is made again.
    path = Path(settings.store) / "v1" / "artifacts" / "queries" / f"{final.result()['artifacts']['queries']}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\0")
    again = select_instructions(settings, return_state=True)
    names = task_states(again)
    assert (steps_in("Completed", names), steps_in("Cached", names)) == ({"queries"}, STEPS - {"queries"})
    assert path.read_bytes() == content
    assert again.result()["ranking"]["asked"] == 0
    log = run_log(again, "it is made again")
    assert f"{path.name} " in log
    assert f"rankings: found intact at {settings.store}" in log
    assert set(select(settings).summary["cached"]) == STEPS, "the library reuses the results of the flow"


def test_results_of_the_library_are_cached_in_the_flow(
    make_run: MakeRun, task_states: TaskStates, artifacts: Callable[[Any], dict[str, Any]]
) -> None:
    settings = make_run(budget=7)
    select(settings)
    final = select_instructions(settings, return_state=True)
    assert steps_in("Cached", task_states(final)) == STEPS
    page = artifacts(final)
    assert {"selection-summary", "selection"} <= set(page)
    assert not [key for key in page if key.endswith("-progress")], "what is found makes no progress"
    assert set(final.result()["cached"]) == STEPS


def test_reasons_are_a_task_of_their_own(
    make_run: MakeRun,
    fake_model: Callable[..., FakeModel],
    task_states: TaskStates,
    artifacts: Callable[[Any], dict[str, Any]],
) -> None:
    def answer(request: Request) -> str:
        return '{"reason": "It is *definite*."}' if request.question.startswith("reason") else by_id(request)

    fake_model(answer)
    settings = make_run(selector="ollama:m", reasons=True, criteria="Medicine", ranking={"gather": "tiers"})
    final = select_instructions(settings, return_state=True)
    assert task_states(final)["reasons"] == ["Completed"]
    assert (final.result()["reasons"]["given"], final.result()["criteria"]) == (5, "Medicine")
    page = artifacts(final)
    assert page["reasons-progress"].type == "progress"
    assert "It is *definite*. (ranked 1 in query" in str(page["selection"].data)
    assert "It is &#42;definite&#42;&#46; (ranked 1 in query" in str(page["selection-summary"].data)
    assert task_states(select_instructions(settings, return_state=True))["reasons"] == ["Cached"]


def test_ratings_are_tasks_of_the_flow_that_the_library_shares(
    make_run: MakeRun, fake_model: Callable[..., FakeModel], task_states: TaskStates
) -> None:
    model = fake_model()
    settings = make_run(selector="ollama:m", ranking={"looks": 0.5, "think": "off"})
    final = select_instructions(settings, return_state=True)
    states, asked = task_states(final), len(model.asked)
    assert (states["looks"], states["ratings"]) == (["Completed"], ["Completed"])
    assert final.result()["ratings"]["looks"] > 0
    again = select(settings)
    assert {"looks", "ratings"} <= set(again.summary["cached"])
    assert len(model.asked) == asked
    assert again.summary["artifacts"]["selection"] == final.result()["artifacts"]["selection"]


def test_aims_are_tasks_of_the_flow_that_the_library_shares(
    make_run: MakeRun, task_states: TaskStates, artifacts: Callable[[Any], dict[str, Any]], tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.jsonl" for name in ("target", "tests")}
    for name, path in files.items():
        path.write_text(json.dumps({"instruction": f"Explain the {name}"}), encoding="utf-8")
    aim = {"target": str(files["target"]), "away_from": (str(files["tests"]),), "stratify": "tag"}
    settings = make_run(strategy="longest", aim=aim)
    final = select_instructions(settings.model_dump(mode="json"), return_state=True)  # as the form sends it
    states = task_states(final)
    assert {states[name][0] for name in ("too_near", "targets", "shortlist", "strata")} == {"Completed"}
    page = artifacts(final)
    assert {"too-near-progress", "targets-progress"} <= set(page)
    assert "Chosen from a shortlist of 50 rows" in str(page["selection-summary"].data)
    again = select(settings)
    assert set(again.summary["cached"]) == set(again.summary["seconds"])
    assert again.summary["artifacts"] == final.result()["artifacts"]


def test_a_strategy_runs_only_the_steps_it_needs(make_run: MakeRun, task_states: TaskStates) -> None:
    names = task_states(select_instructions(make_run(strategy="longest"), return_state=True))
    assert {step for step in (*STEPS, "model") if step in names} == {"pool", "preferences", "selection"}


def test_a_failed_flow_raises_the_error_of_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    results = tmp_path / "results"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: results}):
        final = select_instructions(make_run(rows=60, budget=61), return_state=True)
    with pytest.raises(UsageError, match="the pool holds 60"):
        final.result()
    kept = [path for path in results.rglob("*") if path.is_file()]
    assert kept, "Prefect stores the error of a failed run"
    for path in kept:
        json.loads(path.read_bytes())  # and no pickle
