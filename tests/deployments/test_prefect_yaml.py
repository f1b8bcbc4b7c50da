"""Checks of prefect.yaml that need no server."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.events import EventTrigger
from prefect.server.api.collections import get_collection_view
from prefect.utilities.schema_tools import validate
from prefect.utilities.templating import apply_values

from deployments import automations, steps, work_pools
from flows.assessment import assess_alpaca_eval, assess_answers, assess_mt_bench
from flows.comparison import compare_selections
from flows.selection import select_instructions
from selectllm.comparison.plan import plan_comparison
from selectllm.comparison.settings import ComparisonSettings
from selectllm.settings import RunSettings
from tasks.states import as_cached

ROOT = steps.ROOT
FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
SELECTION = "flows/selection.py:select_instructions"
BY_NAME = {
    deployment["name"]: deployment for deployment in FILE["deployments"] if deployment["entrypoint"] == SELECTION
}
COMPARISONS, ASSESSMENTS = (
    [deployment for deployment in FILE["deployments"] if deployment["entrypoint"].startswith(file)]
    for file in ("flows/comparison.py", "flows/assessment.py")
)
DEMO = {"selector_settings": steps.selector_settings()}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_deployment_runs_with_its_defaults(name: str) -> None:
    run = RunSettings.model_validate(apply_values(BY_NAME[name]["parameters"], DEMO)["run"])
    assert (ROOT / run.pool).is_file()
    assert (run.selector, run.budget, run.ranking.candidate_chars) == ("embedded", 20, 120)
    assert run.history == ("nightly" if name == "nightly" else None)
    file, function = BY_NAME[name]["entrypoint"].split(":")
    assert (ROOT / file).is_file()
    assert function == select_instructions.fn.__name__
    assert BY_NAME[name]["enforce_parameter_schema"] is True


def test_the_deployed_comparison_runs_with_its_defaults_and_asks_no_model() -> None:
    (deployment,) = COMPARISONS
    assert (deployment["name"], deployment["entrypoint"]) == ("on-demand", "flows/comparison.py:compare_selections")
    assert deployment["enforce_parameter_schema"] is True
    form = compare_selections.parameters.model_dump_for_openapi()
    assert validate(deployment["parameters"], form) == []
    settings = ComparisonSettings.model_validate(deployment["parameters"]["comparison"])
    assert (ROOT / settings.pool).is_file()
    assert plan_comparison(settings)["calls"] == 0


def test_killed_runs_of_all_deployed_flows_and_their_subflows_are_found() -> None:
    files = {deployment["entrypoint"].split(".py:")[0] for deployment in FILE["deployments"]}
    flows = [value for file in files for value in vars(import_module(file.replace("/", "."))).values()]
    assert {flow.name for flow in flows if isinstance(flow, Flow)} == set(automations.WATCHED)
    state: Any = as_cached(None, is_cached=True)
    trigger = automations.crash_killed_runs().trigger
    assert isinstance(trigger, EventTrigger)
    assert f"prefect.flow-run.{state.name}" in trigger.expect, "a run that ends so was not killed"


LEFT_OPEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "assess_answers": (assess_answers, {"questions": "test.jsonl", "models": ["ours=ours.jsonl"]}),
    "assess_mt_bench": (assess_mt_bench, {"questions": "question.jsonl", "models": ["ours=openai:m"]}),
    "assess_alpaca_eval": (assess_alpaca_eval, {"outputs": "a.json", "baseline": "b.json", "selector": "openai:m"}),
}
"""What must be filled in of the forms of assessments."""


def test_every_assessment_has_a_form() -> None:
    assert [one["entrypoint"].partition(":")[2] for one in ASSESSMENTS] == list(LEFT_OPEN)
    assert {(one["name"], one["enforce_parameter_schema"], "parameters" in one) for one in ASSESSMENTS} == {
        ("on-demand", True, False)
    }


@pytest.mark.parametrize("name", LEFT_OPEN)
def test_the_form_of_an_assessment_has_titles_and_accepts_open_parameters(name: str) -> None:
    flow, left_open = LEFT_OPEN[name]
    form = flow.parameters.model_dump_for_openapi()
    assert form["properties"]["assessment"]["title"] == "Assessment"
    settings = flow.fn.__annotations__["assessment"].__origin__
    fields = form["definitions"][settings.__name__]["properties"]
    assert all(field.get("title") and (field.get("description") or "$ref" in str(field)) for field in fields.values())
    as_python_sends = settings.model_validate(left_open).model_dump(mode="json")
    for assessment in (left_open, as_python_sends):
        assert validate({"assessment": assessment}, form) == []
    (error,) = validate({"assessment": left_open | {"ranking": {"concurrency": 0}}}, form)
    assert "minimum of 1" in error.message


def test_the_form_of_a_comparison_has_titles_and_accepts_open_parameters() -> None:
    form = compare_selections.parameters.model_dump_for_openapi()
    assert form["properties"]["comparison"]["title"] == "Comparison"
    fields = form["definitions"]["ComparisonSettings"]["properties"]
    assert all(field.get("title") and (field.get("description") or "$ref" in str(field)) for field in fields.values())
    left_open = {"pool": "pool.jsonl", "budgets": [5]}
    as_python_sends = ComparisonSettings.model_validate(left_open).model_dump(mode="json")
    for comparison in (left_open, as_python_sends):
        assert validate({"comparison": comparison}, form) == []
    (error,) = validate({"comparison": left_open | {"budgets": [0]}}, form)
    assert "minimum of 1" in error.message


def test_the_form_has_titles_and_accepts_open_parameters() -> None:
    form = select_instructions.parameters.model_dump_for_openapi()
    assert form["properties"]["run"]["title"] == "Run"
    assert "How many rows" in form["definitions"]["RunSettings"]["properties"]["budget"]["description"]
    fields = form["definitions"]["RunSettings"]["properties"]
    assert fields["store"]["default"] == "./artifacts", "a form sends what has a default: see docs/using.md"
    left_open = {"pool": "pool.jsonl", "budget": 5}
    as_python_sends = RunSettings.model_validate(left_open).model_dump(mode="json")
    assert as_python_sends["history"] is None
    for run in (left_open, as_python_sends):
        assert validate({"run": run}, form) == []
    (error,) = validate({"run": left_open | {"budget": 0}}, form)
    assert "minimum of 1" in error.message


def test_another_selector_is_not_clipped_like_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELECTLLM_SELECTOR", "ollama:m")
    assert steps.selector_settings() == {"selector": "ollama:m", "ranking": {}}


def test_nightly_runs_never_overlap() -> None:
    assert BY_NAME["nightly"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    (schedule,) = BY_NAME["nightly"]["schedules"]
    assert schedule["slug"] == "nightly"  # without a slug a second deployment would create a second schedule
    assert schedule["timezone"]


@pytest.mark.asyncio
async def test_job_variables_are_known_to_their_work_pool() -> None:
    kinds = {
        kind: details
        for collection in (await get_collection_view("aggregate-worker-metadata")).values()
        for kind, details in collection.items()
    }
    pools: list[dict[str, Any]] = [FILE["definitions"][name] for name in ("process", "docker", "kubernetes")]
    for pool in pools:
        known = kinds[pool["type"]]["default_base_job_configuration"]["variables"]["properties"]
        assert set(pool["job_variables"]) <= set(known), pool["name"]
        assert pool["job_variables"]["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    assert [pool["name"] for pool in work_pools.named_work_pools()] == ["selectllm"]


def test_the_version_comes_from_git_unless_it_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert steps.checkout()["directory"] == str(ROOT)
    monkeypatch.setenv("SELECTLLM_VERSION", "7.0")
    assert steps.checkout()["version"] == "7.0"
    monkeypatch.delenv("SELECTLLM_VERSION")
    monkeypatch.setattr(steps, "ROOT", tmp_path)  # no repository
    assert steps.checkout()["version"] == "0.1.0"
