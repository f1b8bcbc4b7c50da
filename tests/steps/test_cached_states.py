"""A second run computes only the steps that a change affects."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm import select
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Artifact
from tests.conftest import HashEmbedder, write_pool

MakeRun = Callable[..., RunSettings]
STEPS = ("pool", "embeddings", "queries", "rankings", "tournament", "preferences", "selection")
pytestmark = pytest.mark.usefixtures("quick_embedding")


class OtherEmbedder(HashEmbedder):
    digest = "another model"


def since(step: str) -> set[str]:
    return set(STEPS[STEPS.index(step) :])


def computed_steps(result: Result) -> set[str]:
    return set(result.summary["seconds"]) - set(result.summary["cached"])


CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "another budget on the same tier": ({"budget": 8}, {"selection"}),
    "another budget on another tier": ({"budget": 12}, since("tournament")),
    "a budget that takes whole tiers": ({"budget": 10}, since("preferences")),
    "another model": ({"selector": "scripted:first"}, since("rankings")),
    "another depth": ({"ranking": {"depth": 2}}, since("rankings")),
    "shorter candidates": ({"ranking": {"candidate_chars": 100}}, since("rankings")),
    "more passes": ({"ranking": {"passes": 2}}, since("rankings")),
    "thinking": ({"ranking": {"think": "low"}}, since("rankings")),
    "own criteria": ({"criteria": "Medicine."}, since("rankings")),
    "another query size": ({"queries": {"size": 10}}, since("queries")),
    "another seed": ({"seed": 1}, since("queries")),
    "another composition": ({"queries": {"composition": "paper"}}, since("queries")),
    "another strategy": ({"strategy": "longest"}, since("preferences")),
    "more questions at once": ({"ranking": {"concurrency": 9}}, set()),
    "more retries": ({"ranking": {"retries": 9}}, set()),
    "an output folder": ({"out": "out"}, set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_recomputes_only_the_steps_it_affects(
    change: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed, expected = CHANGES[change]
    select(make_run(budget=7))
    assert computed_steps(select(make_run(**{"budget": 7, **changed}))) == expected


@pytest.mark.parametrize(
    ("version", "first"),
    [
        ("selectllm.steps.read_pool.CODE_VERSION", "pool"),
        ("selectllm.embedding.models.CODE_VERSION", "embeddings"),
        ("selectllm.steps.build_queries.CODE_VERSION", "queries"),
        ("selectllm.steps.rank.CODE_VERSION", "rankings"),
        ("selectllm.ranking.prompts.CODE_VERSION", "rankings"),
        ("selectllm.steps.run_tournament.CODE_VERSION", "tournament"),
        ("selectllm.strategies.strategy.CODE_VERSION", "preferences"),
        ("selectllm.strategies.selectllm.SelectLLM.code_version", "preferences"),
        ("selectllm.steps.choose.CODE_VERSION", "selection"),
    ],
)
def test_a_raised_code_version_recomputes_its_step_and_later_steps(
    version: str, first: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run(budget=7)
    select(settings)
    monkeypatch.setattr(version, 99)
    assert computed_steps(select(settings)) == since(first)


def test_another_embedding_model_or_pool_recomputes_later_steps(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run(budget=7)
    select(settings)
    with monkeypatch.context() as patch:
        patch.setattr("selectllm.embedding.models.open_embedder", lambda _name: OtherEmbedder())
        assert computed_steps(select(settings)) == since("embeddings")
    write_pool(Path(settings.pool), 61)
    assert computed_steps(select(settings)) == set(STEPS)


@pytest.mark.parametrize("change", ["grew", "shrank"])
def test_a_changed_pool_extends_the_existing_queries(change: str, make_run: MakeRun) -> None:
    """The tables of all steps change. test_incremental.py checks the old rows in them."""
    settings = make_run(budget=7)
    first = select(settings)
    lines = Path(settings.pool).read_text(encoding="utf-8").splitlines()
    lines = [*lines, json.dumps({"instruction": "A new one"})] if change == "grew" else lines[:-1]
    Path(settings.pool).write_text("\n".join(lines), encoding="utf-8")
    second = select(settings)
    assert computed_steps(second) == set(STEPS)
    queries = second.store.manifest(Artifact(kind="queries", key=second.summary["artifacts"]["queries"]))
    assert queries is not None
    assert queries.made_from["queries"] == first.summary["artifacts"]["queries"]
    assert queries.facts["formed"] < 30
    assert computed_steps(select(make_run(budget=7, requery=True))) == since("queries")
