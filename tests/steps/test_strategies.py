"""Strategies: built-in ones, ones from entry points, and the steps that each of them needs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from selectllm import plan_run, select
from selectllm.errors import ContractError, TooFewRanked, UsageError
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.settings import RunSettings
from selectllm.strategies import load_strategy

MakeRun = Callable[..., RunSettings]

OWN_STRATEGY = """
import pyarrow as pa

from selectllm.selection import as_preferences
from selectllm.strategies.strategy import Choice, Strategy


class Briefest(Strategy):
    '''The shortest first.'''

    name = "briefest"

    def prefer(self, choice: Choice) -> pa.Table:
        rows = sorted(choice.pool.to_pylist(), key=lambda row: (len(row["instruction"]), row["id"]))
        return as_preferences(pa.table({"id": [row["id"] for row in rows], "reason": ["short"] * len(rows)}))


class Repeats(Briefest):
    name = "repeats"

    def prefer(self, choice: Choice) -> pa.Table:
        first = choice.pool["id"][0].as_py()
        return as_preferences(pa.table({"id": [first, first], "reason": ["twice"] * 2}))


class Few(Briefest):
    name = "few"

    def prefer(self, choice: Choice) -> pa.Table:
        return super().prefer(choice).slice(0, 2)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with strategies, as installed by pip."""
    (tmp_path / "own_strategies.py").write_text(OWN_STRATEGY)
    info = tmp_path / "own_strategies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-strategies\nVersion: 1.0\n")
    names = {"briefest": "Briefest", "repeats": "Repeats", "few": "Few", "missing": "Missing", "no-strategy": "pa"}
    lines = [f"{name} = own_strategies:{attribute}" for name, attribute in names.items()]
    (info / "entry_points.txt").write_text("\n".join(["[selectllm.strategies]", *lines]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", ["random", "longest", "shortest", "rouge-diversity"])
def test_a_strategy_without_a_model_sends_no_request_and_embeds_nothing(
    name: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _: pytest.fail("embeds"))
    settings = make_run(budget=7, strategy=name, selector="ollama:nowhere")
    result = select(settings)
    assert set(result.summary["seconds"]) == {"pool", "preferences", "selection"}
    assert (result.summary["ranking"], result.summary["queries"], result.summary["model"]) == (None, None, None)
    assert result.table()["strategy"].to_pylist() == [name] * 7
    assert result.table()["query_id"].null_count == 7
    assert select(settings).summary["cached"] == ["pool", "preferences", "selection"]
    assert plan_run(settings)["ranking"] is None
    for id in result.table("pool")["id"].to_pylist()[:20]:
        explanation = explain(result.store, id)
        chosen = ("random", "length", "wording")
        assert explanation.decision.why in (chosen if explanation.decision.chosen else ("place",))
        assert render_explanation(explanation)


def test_longest_chooses_the_longest_rows(make_run: MakeRun) -> None:
    result = select(make_run(budget=7, strategy="longest"))
    lengths = sorted(map(len, result.table("pool")["instruction"].to_pylist()), reverse=True)
    assert list(map(len, result.table()["instruction"].to_pylist())) == lengths[:7]
    assert result.table()["score"].to_pylist() == [float(length) for length in lengths[:7]]


def test_random_depends_on_the_seed_and_is_stable_when_the_pool_grows(make_run: MakeRun) -> None:
    first = select(make_run(budget=20, strategy="random")).table()["id"].to_pylist()
    assert select(make_run(budget=20, strategy="random", store="memory://other")).table()["id"].to_pylist() == first
    assert select(make_run(budget=20, strategy="random", seed=1)).table()["id"].to_pylist() != first
    grown = select(make_run(rows=70, budget=20, strategy="random")).table()["id"].to_pylist()
    assert [id for id in grown if id in first] == [id for id in first if id in grown]


def test_excluded_rows_are_never_chosen(make_run: MakeRun, tmp_path: Path) -> None:
    first = select(make_run(budget=5, strategy="longest")).table()["id"].to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(first[:2]))
    second = select(make_run(budget=5, strategy="longest", exclude=(str(tmp_path / "ids.txt"),)))
    assert second.table()["id"].to_pylist()[:3] == first[2:]


@pytest.mark.parametrize("name", ["stratified", "kcenter", "facility", "probcover", "novelselect"])
def test_a_strategy_of_vectors_embeds_asks_nothing_and_is_explained(
    name: str, make_run: MakeRun, quick_embedding: object, tmp_path: Path
) -> None:
    settings = make_run(budget=7, strategy=name, selector="ollama:nowhere")
    result = select(settings)
    assert set(result.summary["seconds"]) == {"pool", "embeddings", "preferences", "selection"}
    assert result.table()["strategy"].to_pylist() == [name] * 7
    assert select(settings).summary["cached"] == ["embeddings", "pool", "preferences", "selection"]
    chosen = result.table()["id"].to_pylist()
    for id in result.table("pool")["id"].to_pylist():
        explanation = explain(result.store, id)
        assert explanation.decision.chosen == (id in chosen)
        if id not in chosen:
            assert explanation.decision.why == ("place" if name == "stratified" else "unnamed")
        assert "do not say why" not in render_explanation(explanation)
        assert f"by the strategy {name}: " not in render_explanation(explanation), "a reason has no words"
    (tmp_path / "ids.txt").write_text("\n".join(chosen))
    further = select(make_run(budget=7, strategy=name, exclude=(str(tmp_path / "ids.txt"),)))
    assert not set(further.table()["id"].to_pylist()) & set(chosen)
    spread = select(make_run(budget=7, strategy=name, diversity=0.5, near_duplicate=0.99))
    assert len(spread.table()) == 7
    assert plan_run(settings)["ranking"] is None


@pytest.mark.usefixtures("installed")
def test_a_strategy_of_another_package_is_loaded(make_run: MakeRun) -> None:
    result = select(make_run(budget=3, strategy="briefest"))
    assert result.table()["picked_by"].to_pylist() == ["short"] * 3
    assert result.summary["strategy"] == "briefest"


@pytest.mark.usefixtures("installed")
def test_an_error_names_a_strategy_with_invalid_preferences(make_run: MakeRun) -> None:
    with pytest.raises(ContractError, match="preferences"):
        select(make_run(budget=2, strategy="repeats"))
    with pytest.raises(TooFewRanked, match="the strategy few names 2 rows"):
        select(make_run(budget=3, strategy="few"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", "there is no strategy 'best': use one of selectllm, random, longest, .*, few"),
        ("missing", "'missing' of own_strategies:Missing cannot be loaded: AttributeError"),
        ("no-strategy", "'no-strategy' of own_strategies:pa cannot be loaded"),
    ],
)
def test_a_strategy_that_cannot_be_loaded_is_bad_usage(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_strategy(name)


def test_the_method_is_the_first_strategy(make_run: MakeRun, quick_embedding: object) -> None:
    table = select(make_run(budget=7)).table()
    assert table["strategy"].to_pylist() == ["selectllm"] * 7
    assert table["rank"].null_count == 0


def test_strategies_are_loaded_only_when_used() -> None:
    program = "import sys, selectllm.strategies; print([m for m in sys.modules if 'strategies.' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['selectllm.strategies.refused', 'selectllm.strategies.strategy']"
