"""What Prefect shows of a run in a store that was used before: Cached for every step that is whole, and no other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.selection import select_instructions
from selectllm import select
from selectllm.settings import RunSettings
from tests.conftest import HashEmbedder, write_pool

MakeRun = Callable[..., RunSettings]
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
    ("recipe", "first"),
    [
        ("selectllm.steps.pool.RECIPE", "pool"),
        ("selectllm.embedding.RECIPE", "embeddings"),
        ("selectllm.steps.queries.RECIPE", "queries"),
        ("selectllm.steps.rankings.RECIPE", "rankings"),
        ("selectllm.prompts.RECIPE", "rankings"),
        ("selectllm.steps.tournament.RECIPE", "tournament"),
        ("selectllm.steps.selection.RECIPE", "selection"),
    ],
)
def test_a_raised_recipe_makes_its_step_and_those_after_it_anew(
    recipe: str,
    first: str,
    make_run: MakeRun,
    ended: Callable[[Any], dict[str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run(budget=7)
    select(run)  # by the library's door, which is quicker and shares the store
    monkeypatch.setattr(recipe, 99)
    names = ended(select_instructions(run, return_state=True))
    assert {step for step in STEPS if names[step] != ["Cached"]} == since(first)


def test_another_embedding_model_or_pool_makes_all_after_it_anew(
    make_run: MakeRun, ended: Callable[[Any], dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(budget=7)
    select(run)  # by the library's door, which is quicker and shares the store
    with monkeypatch.context() as patch:
        patch.setattr("selectllm.embedding.open_embedder", lambda _name: OtherEmbedder())
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


def test_a_flow_run_fills_the_slot_of_its_own_id(make_run: MakeRun) -> None:
    final = select_instructions(make_run(budget=4, history="nightly"), return_state=True)
    assert final.result()["selection"]["slot"] == str(final.state_details.flow_run_id)
    second = select_instructions(make_run(budget=4, history="nightly"))
    assert second["selection"]["excluded"] == 4
