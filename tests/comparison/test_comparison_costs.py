"""What a comparison costs: one limit for all cells, and what a dry run counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from selectllm.cli.main import main
from selectllm.comparison.cells import REFERENCE_SEEDS, list_cells
from selectllm.comparison.compare import check_comparison, compare
from selectllm.comparison.plan import format_comparison_plan, plan_comparison
from selectllm.comparison.settings import ComparisonSettings
from selectllm.errors import CostExceeded
from selectllm.llm.model import Reply, Request
from selectllm.llm.prices import LOOKED_UP
from tests.comparison.conftest import Make, found
from tests.conftest import FakeModel, by_id

pytestmark = pytest.mark.usefixtures("quick_embedding")


@pytest.mark.parametrize(
    ("strategies", "selectors", "unused"),
    [
        (("longest", "kcenter"), ("ollama:m", "openai:m"), "random, longest, kcenter asks ollama:m, openai:m"),
        (("perplexity-low",), ("ollama:m",), "random, perplexity-low asks ollama:m"),
        (("perplexity-low", "selectllm"), ("ollama:m",), None),
        (("longest",), None, None),
    ],
)
def test_selectors_that_no_strategy_asks_are_named(
    strategies: tuple[str, ...],
    selectors: tuple[str, ...] | None,
    unused: str | None,
    make: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = make(strategies=strategies, **({} if selectors is None else {"selectors": selectors}))
    if selectors is None:
        settings = ComparisonSettings.model_validate(settings.model_dump(exclude_unset=True, exclude={"selectors"}))
    for act in (plan_comparison, lambda settings: check_comparison(settings, list_cells(settings))):
        caplog.clear()
        act(settings)
        warned = [record.getMessage() for record in caplog.records if "none of the strategies" in record.getMessage()]
        assert len(warned) == (unused is not None)
        assert all(f"{unused}: leave that out of --selectors" in message for message in warned)


def test_the_cost_limit_is_one_for_all_cells(make: Make, fake_model: Callable[..., FakeModel]) -> None:
    def priced(request: Request) -> Reply:
        return Reply(text=by_id(request), done_reason="stop", prompt_tokens=1_000_000, output_tokens=0)

    model = fake_model(priced)
    ranking = {"price_in": 1.0, "max_cost": 5.0, "gather": "tiers"}
    settings = make(strategies=("selectllm",), selectors=("ollama:fake",), ranking=ranking)
    with pytest.raises(CostExceeded, match=r"has cost 5\.00, and --max-cost is 5\.00"):
        compare(settings.model_copy(update={"ranking": settings.ranking.model_copy(update={"concurrency": 1})}))
    asked = len(model.asked)
    assert asked == 5
    rest = compare(settings.model_copy(update={"ranking": settings.ranking.model_copy(update={"max_cost": 100.0})}))
    assert len(model.asked) == len({request.text for request in model.asked}), "nothing is paid twice"
    assert len(model.asked) > asked
    assert found(rest, "selectllm", "questions").mean > 0


def test_a_cell_without_usable_answers_counts_for_the_limit(make: Make, fake_model: Callable[..., FakeModel]) -> None:
    model = fake_model(lambda _: Reply("nonsense", "stop", 1_000_000, 0))  # each question costs 1
    ranking = {"price_in": 1.0, "max_cost": 9.0, "concurrency": 1, "max_abstained": 0.0}
    own = {"strategies": ("alpagasus",), "selectors": ("ollama:fake",), "budgets": (4, 8, 12, 16)}
    with pytest.raises(CostExceeded, match=r"has cost 9\.00, and --max-cost is 9\.00"):
        compare(make(**own, ranking=ranking))
    assert len(model.asked) == 9


def test_cells_that_are_kept_are_read_where_the_limit_is_reached(
    make: Make, fake_model: Callable[..., FakeModel], tmp_path: Path
) -> None:
    model = fake_model(lambda request: Reply(by_id(request), "stop", 1_000_000, 0))  # each question costs 1
    ranking = {"price_in": 1.0, "gather": "tiers", "concurrency": 1}
    own = {"strategies": ("selectllm",), "selectors": ("ollama:fake",)}
    compare(make(**own, seed=1, seeds=1, ranking=ranking))  # all of it is kept
    compare(make(**own, seed=0, seeds=1, ranking=ranking, store=str(tmp_path / "another")))
    kept, cost = [sum(request.seed == seed for request in model.asked) for seed in (1, 0)]
    assert min(kept, cost) > 0
    both = compare(make(**own, seed=0, seeds=2, ranking=ranking | {"max_cost": float(cost)}))
    assert len(model.asked) == kept + 2 * cost
    assert set(found(both, "selectllm", "questions").by_seed) == {0, 1}


def test_a_dry_run_counts_cells_and_questions_and_asks_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _: pytest.fail("embeds"))
    arguments = [make().pool, "--budgets", "4,8", "--strategies", "selectllm,longest", "--seeds", "3"]
    arguments += ["--selectors", "scripted:first", "--store", make().store, "--no-validate", "--dry-run", "--json"]
    assert main(["compare", *arguments]) == 0
    plan = json.loads(capsys.readouterr().out)
    ways = {way["strategy"]: way for way in plan["ways"]}
    assert (ways["random"]["cells"], ways["random"]["calls"]) == (2 * REFERENCE_SEEDS, 0)
    assert (ways["longest"]["cells"], ways["selectllm"]["cells"]) == (2, 6)
    assert plan["calls"] == ways["selectllm"]["calls"] > 0


def test_a_dry_run_counts_what_all_seeds_ask_alike_once(make: Make) -> None:
    names = ("selectllm", "open-endedness", "alpagasus")
    plan = plan_comparison(make(strategies=names, selectors=("embedded",), seeds=3))
    calls = {way["strategy"]: (way["seeds"], way["calls"]) for way in plan["ways"]}
    assert calls["selectllm"] == (3, 40), "pointwise, a row is asked about in one way"
    assert calls["open-endedness"] == (3, 3 * 3 * 40), "each seed draws answers of its own"
    assert calls["alpagasus"] == (1, 40)


def test_a_dry_run_says_whose_prices_it_estimates_by(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    plan = plan_comparison(make(strategies=("selectllm",), selectors=("openai:gpt-4o-mini",)))
    assert plan["list_prices_of"] == LOOKED_UP
    assert f"in USD by list prices of {LOOKED_UP}" in format_comparison_plan(plan)
    own = plan_comparison(make(strategies=("selectllm",), selectors=("openai:m",), ranking={"price_in": 1e3}))
    assert own["list_prices_of"] is None
    assert own["cost"] > 0


def test_a_dry_run_names_those_whose_price_its_cost_is_without(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    selectors = ("openai:gpt-4o-mini", "openai:mine", "embedded")
    plan = plan_comparison(make(strategies=("selectllm", "longest"), selectors=selectors))
    priced = next(way for way in plan["ways"] if way["selector"] == "openai:gpt-4o-mini")
    assert plan["without_price"] == ["selectllm by openai:mine"]  # nobody is paid for the embedded model
    assert plan["cost"] == priced["cost"] > 0
    assert "The cost is without selectllm by openai:mine: no price is known" in format_comparison_plan(plan)
    given = plan_comparison(make(strategies=("selectllm",), selectors=selectors, ranking={"price_in": 1.0}))
    assert given["without_price"] == []
    assert "without" not in format_comparison_plan(given)
