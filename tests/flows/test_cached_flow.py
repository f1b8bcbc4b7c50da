"""What Prefect shows of a run in a store that was used before: Cached for every step that is whole, and no other."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.selection import select_instructions
from selectllm import select
from selectllm.settings import RunSettings
from selectllm.store import Artifact, Store
from tasks.history import with_own_slot
from tests.conftest import HashEmbedder, write_pool

MakeRun = Callable[..., RunSettings]
Ended = Callable[[Any], dict[str, list[str]]]
STEPS = ("pool", "embeddings", "queries", "rankings", "tournament", "selection")
pytestmark = [pytest.mark.usefixtures("quick_embedding"), pytest.mark.filterwarnings("default")]


def since(step: str) -> set[str]:
    return set(STEPS[STEPS.index(step) :])


class OtherEmbedder(HashEmbedder):
    digest = "another model"


CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "another budget on the same level": ({"budget": 8}, {"selection"}),
    "another budget on another level": ({"budget": 12}, {"tournament", "selection"}),
    "a budget that takes whole levels": ({"budget": 10}, {"selection"}),
    "another model": ({"selector": "scripted:first"}, since("rankings")),
    "another depth": ({"ranking": {"depth": 2}}, since("rankings")),
    "shorter candidates": ({"ranking": {"candidate_chars": 100}}, since("rankings")),
    "more passes": ({"ranking": {"passes": 2}}, since("rankings")),
    "thinking": ({"ranking": {"think": "low"}}, since("rankings")),
    "another query size": ({"queries": {"size": 10}}, since("queries")),
    "another seed": ({"seed": 1}, since("queries")),
    "another composition": ({"queries": {"composition": "paper"}}, since("queries")),
    "an output folder": ({"out": "out"}, set()),
    **{f"--refresh {step}": ({"refresh": [step]}, {step}) for step in STEPS},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_anew_what_it_bears_on(
    change: str, make_run: MakeRun, ended: Callable[[Any], dict[str, list[str]]], tmp_path: Path
) -> None:
    changed, expected = CHANGES[change]
    if "out" in changed:
        changed = {"out": str(tmp_path / "out")}
    run = make_run(budget=7)
    select(run)  # by the library's door, which is quicker and shares the store
    names = ended(select_instructions(make_run(**{"budget": 7, **changed}), return_state=True))
    played = (
        "tournament" in names and names["tournament"] == ["Completed"] and change != "a budget that takes whole levels"
    )
    made = {step for step in STEPS if names[step] == ["Completed"] and (step != "tournament" or played)}
    assert made == expected
    assert all(names[step] == ["Cached"] for step in STEPS if step not in expected | {"tournament"})


@pytest.mark.parametrize(
    ("code_version", "first"),
    [
        ("selectllm.steps.read_pool.CODE_VERSION", "pool"),
        ("selectllm.embedding.models.CODE_VERSION", "embeddings"),
        ("selectllm.steps.build_queries.CODE_VERSION", "queries"),
        ("selectllm.steps.rank.CODE_VERSION", "rankings"),
        ("selectllm.ranking.prompts.CODE_VERSION", "rankings"),
        ("selectllm.steps.run_tournament.CODE_VERSION", "tournament"),
        ("selectllm.steps.choose.CODE_VERSION", "selection"),
    ],
)
def test_a_raised_code_version_makes_its_step_and_those_after_it_anew(
    code_version: str,
    first: str,
    make_run: MakeRun,
    ended: Callable[[Any], dict[str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(budget=7)
    select(run)  # by the library's door, which is quicker and shares the store
    monkeypatch.setattr(code_version, 99)
    names = ended(select_instructions(run, return_state=True))
    assert {step for step in STEPS if names[step] != ["Cached"]} == since(first)


def test_another_embedding_model_or_pool_makes_all_after_it_anew(
    make_run: MakeRun, ended: Callable[[Any], dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(budget=7)
    select(run)  # by the library's door, which is quicker and shares the store
    with monkeypatch.context() as patch:
        patch.setattr("selectllm.embedding.models.open_embedder", lambda _name: OtherEmbedder())
        names = ended(select_instructions(run, return_state=True))
    assert {step for step in STEPS if names[step] != ["Cached"]} == since("embeddings")
    write_pool(Path(run.pool), 61)
    names = ended(select_instructions(run, return_state=True))
    assert {step for step in STEPS if names[step] != ["Cached"]} == set(STEPS)


@pytest.mark.parametrize("damage", ["deleted", "cut short", "altered"])
def test_a_damaged_file_is_noticed_rebuilt_and_logged(
    damage: str, make_run: MakeRun, ended: Callable[[Any], dict[str, list[str]]], run_log: Callable[[Any, str], str]
) -> None:
    run = make_run(budget=7)
    keys = select(run).summary["artifacts"]
    path = Path(run.store) / "v1" / "artifacts" / "rankings" / f"{keys['rankings']}.parquet"
    content = path.read_bytes()
    path.unlink()
    if damage != "deleted":
        path.write_bytes(content[:-1] if damage == "cut short" else content[:-1] + b"\0")
    final = select_instructions(run, return_state=True)
    names = ended(final)
    assert {step for step in STEPS if names[step] != ["Cached"]} == {"rankings"}
    assert path.read_bytes() == content
    assert f"{path.name} " in run_log(final, "it is made again")


@pytest.mark.parametrize("change", ["grew", "shrank"])
def test_a_pool_that_is_another_is_divided_on_top_of_what_stands(change: str, make_run: MakeRun, ended: Ended) -> None:
    """Every step's table is another; what is in it of the old rows, other tests look at."""
    run = make_run(budget=7)
    first = select(run)
    lines = Path(run.pool).read_text(encoding="utf-8").splitlines()
    changed = [*lines, '{"instruction": "A new one"}'] if change == "grew" else lines[:-1]
    Path(run.pool).write_text("\n".join(changed), encoding="utf-8")
    final = select_instructions(run, return_state=True)
    names = ended(final)
    assert {step for step in STEPS if names[step] != ["Cached"]} == set(STEPS)
    queries = Store(run.store).manifest(Artifact(kind="queries", key=final.result()["artifacts"]["queries"]))
    assert queries is not None
    assert queries.made_from["queries"] == first.summary["artifacts"]["queries"]
    assert queries.facts["formed"] < 30
    names = ended(select_instructions(make_run(budget=7, requery=True), return_state=True))
    assert {step for step in STEPS if names[step] != ["Cached"]} == since("queries")


def test_exclusion_leaves_all_but_the_choosing_cached(make_run: MakeRun, ended: Ended, tmp_path: Path) -> None:
    first = select(make_run(budget=4))
    (tmp_path / "ids.txt").write_text("\n".join(first.table()["id"].to_pylist()[:2]), encoding="utf-8")
    final = select_instructions(make_run(budget=4, exclude=[str(tmp_path / "ids.txt")]), return_state=True)
    assert {step for step in STEPS if ended(final)[step] != ["Cached"]} <= {"tournament", "selection"}
    assert final.result()["selection"]["excluded"] == 2


@pytest.mark.parametrize("scheduled", [True, False])
def test_a_slot_is_the_scheduled_time_or_else_the_run(
    scheduled: bool, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, flow_run_id = uuid4(), uuid4()
    at = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
    flow_run = FlowRun(
        id=flow_run_id, flow_id=uuid4(), deployment_id=deployment, auto_scheduled=scheduled, expected_start_time=at
    )
    context = SimpleNamespace(flow_run=flow_run)
    monkeypatch.setattr("tasks.history.FlowRunContext", SimpleNamespace(get=lambda: context))
    slot = with_own_slot(make_run(history="nightly")).slot
    assert slot == (f"20260301T020000Z-{str(deployment)[:8]}" if scheduled else str(flow_run_id))


def test_a_filled_slot_is_published_and_nothing_else_done(make_run: MakeRun, ended: Ended) -> None:
    run = make_run(budget=4, history="nightly", slot="monday")
    first = select(run)
    final = select_instructions(run, return_state=True)
    assert ended(final) == {"publish": ["Completed"]}
    assert final.result()["artifacts"] == first.summary["artifacts"]


def test_a_flow_run_fills_the_slot_of_its_own_id(make_run: MakeRun) -> None:
    final = select_instructions(make_run(budget=4, history="nightly"), return_state=True)
    assert final.result()["selection"]["slot"] == str(final.state_details.flow_run_id)
    second = select_instructions(make_run(budget=4, history="nightly"))
    assert second["selection"]["excluded"] == 4
