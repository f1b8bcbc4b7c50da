"""A comparison: its cells, its files, what it says of differences, and that nothing is done twice."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from selectllm import select
from selectllm.cli.environment import with_environment
from selectllm.cli.main import main
from selectllm.comparison.cells import REFERENCE_SEEDS, Cell, cell_settings, list_cells
from selectllm.comparison.compare import check_comparison, compare
from selectllm.comparison.measures import measure
from selectllm.comparison.outcomes import Outcome, run_cell
from selectllm.comparison.pictures import draw
from selectllm.comparison.plan import format_comparison_plan, plan_comparison
from selectllm.comparison.settings import ComparisonSettings
from selectllm.comparison.summary import Comparison, Estimate, estimates, overlaps
from selectllm.errors import CostExceeded, UsageError
from selectllm.llm.model import Reply, Request
from selectllm.llm.prices import LOOKED_UP
from selectllm.schemas import COMPARISON, SELECTIONS
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context
from selectllm.store import Store
from tests.conftest import FakeModel, by_id

pytestmark = pytest.mark.usefixtures("quick_embedding")
Make = Callable[..., ComparisonSettings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Settings of a comparison over 40 rows, of which every fourth is worth something."""
    pool = tmp_path / "pool.jsonl"
    rows = [{"instruction": f"Explain {i}" + " at length" * (i % 7), "worth": int(i % 4 == 0)} for i in range(40)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def make(**fields: Any) -> ComparisonSettings:
        defaults = {"pool": str(pool), "budgets": (8,), "strategies": ("longest",), "selectors": ("scripted:first",)}
        own = {"seeds": 3, "store": str(tmp_path / "store"), "quality": {"no_validate": True}}
        return ComparisonSettings.model_validate(defaults | own | fields)

    return make


def found(comparison: Comparison, strategy: str, measure: str) -> Estimate:
    return next(e for e in comparison.estimates if e.way[0] == strategy and e.measure == measure)


def test_random_is_always_there_and_what_no_seed_changes_is_done_once(make: Make) -> None:
    settings = make(
        budgets=(4, 8), strategies=("longest", "selectllm", "random"), selectors=("scripted:first", "embedded")
    )
    cells = list_cells(settings)
    assert len(cells) == len(set(cells))
    assert [cell.strategy for cell in cells[: 2 * REFERENCE_SEEDS]] == ["random"] * 2 * REFERENCE_SEEDS
    assert [cell for cell in cells if cell.strategy == "longest"] == [
        Cell("longest", None, 4, 0),
        Cell("longest", None, 8, 0),
    ]
    asked = [cell for cell in cells if cell.strategy == "selectllm"]
    assert {(cell.selector, cell.seed) for cell in asked} == {
        (selector, seed) for selector in ("scripted:first", "embedded") for seed in range(3)
    }


def test_a_variant_has_settings_of_its_own_and_what_is_open_stays_open(make: Make) -> None:
    settings = make(strategies=("selectllm-paper",), queries={"size": 5})
    run = cell_settings(settings, Cell("selectllm-paper", "scripted:first", 8, 2))
    assert (run.strategy, run.ranking.gather, run.queries.composition, run.queries.size) == (
        "selectllm",
        "tiers",
        "paper",
        5,
    )
    assert (run.seed, run.budget, run.selector, run.out) == (2, 8, "scripted:first", None)
    assert "embedding" not in run.model_fields_set


def test_the_environment_names_nothing_that_a_comparison_has_no_option_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"HISTORY": "nightly", "EXCLUDE": '["x.jsonl"]', "DIVERSITY": "1", "RANKING__DEPTH": "2", "OUT": "mine"}
    for name, value in named.items():
        monkeypatch.setenv(f"SELECTLLM_{name}", value)
    run = with_environment(cell_settings(make(), Cell("longest", None, 8, 0)))
    assert (run.history, run.exclude, run.diversity, run.out, run.ranking.depth) == (None, (), 0, None, 2)


def test_only_strategies_that_ask_a_model_send_batches(make: Make) -> None:
    names = ("longest", "perplexity-low", "selectllm")
    settings = make(strategies=names, selectors=("openai:m",), ranking={"batch": True})
    runs = {cell.strategy: cell_settings(settings, cell) for cell in list_cells(settings)}
    assert {name: run.ranking.batch for name, run in runs.items()} == {
        "random": False,
        "longest": False,
        "perplexity-low": False,
        "selectllm": True,
    }


@pytest.mark.parametrize(
    ("selectors", "read"),
    [
        (("embedded:/m.gguf", "openai:m", "embedded"), ["embedded:/m.gguf", "embedded"]),
        (("openai:m", "ollama:m"), ["embedded"]),
    ],
)
def test_perplexity_is_that_of_the_selectors_whose_weights_can_be_read(
    make: Make, selectors: tuple[str, ...], read: list[str]
) -> None:
    settings = make(strategies=("perplexity-mid",), selectors=selectors)
    cells = [cell for cell in list_cells(settings) if cell.strategy == "perplexity-mid"]
    assert [cell.selector for cell in cells] == read
    assert [cell_settings(settings, cell).selector for cell in cells] == read


def test_every_cell_keeps_to_the_quotas(make: Make) -> None:
    settings = make(strategies=("selectllm", "kcenter"), budgets=(4, 8), aim={"quota": ["worth:1=3"]})
    pool = select(cell_settings(settings, Cell("random", None, 8, 0))).table("pool")
    worth = {row["id"]: row["worth"] for row in pool.to_pylist()}
    for outcome in compare(settings).outcomes:
        assert sum(worth[id] for id in outcome.ids) == 3


def test_a_selection_from_a_shortlist_is_measured_on_the_whole_pool(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def watched(context: Context, results: dict[str, StepResult], labels: str | None) -> StepResult:
        measured.append({kind: results[kind].manifest.rows for kind in ("pool", "embeddings", "clusters", "selection")})
        return measure(context, results, labels)

    monkeypatch.setattr("selectllm.comparison.outcomes.measure", watched)
    target = tmp_path / "target.jsonl"
    target.write_text('{"instruction": "Explain 3"}\n')
    aim = {"target": str(target), "target_rows": 9}
    outcomes = compare(make(strategies=("kcenter", "longest"), aim=aim)).outcomes
    assert len({id for outcome in outcomes for id in outcome.ids}) == 9
    assert measured == [{"pool": 40, "embeddings": 40, "clusters": 40, "selection": 8}] * len(outcomes)


def test_a_cell_asks_by_the_criteria(make: Make, fake_model: Callable[..., FakeModel]) -> None:
    model = fake_model(lambda request: Reply(text=by_id(request), done_reason="stop"))
    settings = make(selectors=("ollama:fake",), criteria="Rows about gardening")
    cell = Cell("selectllm", "ollama:fake", 8, 0)
    run = cell_settings(settings, cell)
    assert run_cell(Context(run, Store(run.store)), cell, None).ids
    assert any("gardening" in request.text for request in model.asked)


def test_a_cell_chooses_what_a_run_chooses(make: Make) -> None:
    comparison = compare(make(strategies=("selectllm",), labels="worth"))
    for outcome in comparison.outcomes:
        if outcome.cell.seed == 1:
            run = cell_settings(comparison.settings, outcome.cell)
            assert tuple(select(run).table()["id"].to_pylist()) == outcome.ids


def test_the_folder_has_every_value_and_every_selection(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    comparison = compare(make(out=str(out), labels="worth", budgets=(4, 8)))
    cells = 2 * (REFERENCE_SEEDS + 1)
    chosen = pq.read_table(out / "selections.parquet")
    assert chosen.schema.equals(SELECTIONS)
    assert len(chosen) == cells // 2 * (4 + 8)
    values = pq.read_table(out / "comparison.parquet")
    assert values.schema.equals(COMPARISON)
    assert len(values) == cells * len(comparison.outcomes[0].values)
    rows = values.to_pylist()
    assert all((row["value"] is None) == (row["reason"] is not None) for row in rows)
    assert {r["reason"] for r in rows if r["measure"] == "coverage_proxy"} == {
        "the rows of the pool have no answers in words"
    }
    summary = pa.csv.read_csv(out / "summary.csv").to_pylist()
    longest = next(r for r in summary if (r["strategy"], r["measure"], r["budget"]) == ("longest", "length_mean", 8))
    assert longest["verdict"] == "higher"
    assert longest["difference_low"] > 0
    assert longest["difference"] == pytest.approx(
        longest["mean"] - found(comparison, "random", "length_mean").mean, abs=9
    )
    text = (out / "comparison.md").read_text("utf-8")
    assert "| longest |" in text
    assert "▲" in text
    page = (out / "comparison.html").read_text("utf-8")
    assert page.count("<svg") == 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert {path.suffix for path in out.iterdir()} == {".md", ".html", ".parquet", ".csv", ".svg"}


def test_the_same_again_makes_nothing_and_says_the_same(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(strategies=("selectllm", "longest"))
    first = compare(settings)
    monkeypatch.setattr("selectllm.comparison.measures.measure_all", lambda _: pytest.fail("measures again"))
    second = compare(settings)
    assert all(outcome.is_cached for outcome in second.outcomes)
    timeless = [
        [{name: value for name, value in o.values.items() if name != "seconds"} for o in c.outcomes]
        for c in (first, second)
    ]
    assert timeless[0] == timeless[1]


def test_a_killed_comparison_goes_on_where_it_was(make: Make, tmp_path: Path) -> None:
    settings = make(strategies=("selectllm", "longest"), budgets=(4, 8))
    undisturbed = compare(settings.model_copy(update={"store": str(tmp_path / "other")}))
    child = os.fork()
    if not child:
        compare(settings)
        os._exit(0)
    folder = Path(settings.store) / "v1" / "artifacts" / "measures"
    until = time.monotonic() + 120
    while time.monotonic() < until and (not folder.exists() or len(list(folder.glob("*.json"))) < 5):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was killed before it had ended"
    resumed = compare(settings)
    kept = sum(outcome.is_cached for outcome in resumed.outcomes)
    assert 5 <= kept < len(resumed.outcomes)
    assert [outcome.ids for outcome in resumed.outcomes] == [outcome.ids for outcome in undisturbed.outcomes]
    assert [e.by_seed for e in resumed.estimates if e.measure != "seconds"] == [
        e.by_seed for e in undisturbed.estimates if e.measure != "seconds"
    ]


def test_a_strategy_that_names_too_few_rows_ends_its_own_cell_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from selectllm.strategies.longest import Longest

    whole = Longest.prefer
    monkeypatch.setattr(Longest, "prefer", lambda self, choice: whole(self, choice).slice(0, 5))
    comparison = compare(make(budgets=(4, 8)))
    failed = [outcome for outcome in comparison.outcomes if outcome.error]
    assert [outcome.cell for outcome in failed] == [Cell("longest", None, 8, 0)]
    assert "5 rows" in failed[0].error
    arguments = [make().pool, "--budgets", "8", "--strategies", "longest", "--no-validate", "--store", make().store]
    assert main(["compare", *arguments]) == 0
    assert "longest, 8 rows, seed 0: the strategy longest names 5 rows" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": "nothing"}, "no column 'nothing'"),
        ({"pool": "-"}, "write standard input to a file"),
        ({"labels": "instruction"}, "labels are numbers"),
        ({"budgets": (8, 41)}, "the budget is 41"),
        ({"strategies": ("nearest",)}, "there is no strategy 'nearest'"),
        ({"out": "s3://bucket/out"}, "is a URL"),
        ({"strategies": ("kcenter", "alpagasus")}, "--strategy alpagasus needs a model"),
        ({"aim": {"stratify": "nothing"}}, "no column 'nothing'"),
        ({"budgets": (4, 35), "aim": {"quota": ("worth:1=2",)}}, "the quotas leave 33 rows"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_embedded(
    make: Make, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _: pytest.fail("embeds"))
    with pytest.raises(UsageError, match=message):
        compare(make(**fields))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch"], "--batch needs a selector openai:MODEL"),
        (["--mode", "pointwise"], "--mode pointwise needs a model"),
        (["--quota", "worth:1=5", "--budgets", "8,4"], "the quotas sum to 5, and the budget is 4"),
        (["--target", "t.jsonl", "--target-rows", "5"], "--target-rows cannot be 5: the budget is 8"),
    ],
)
def test_settings_that_a_run_refuses_are_bad_usage(
    make: Make, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make()
    arguments = [settings.pool, "--budgets", "8", "--selectors", "scripted:first", "--store", settings.store]
    assert main(["compare", *arguments, *options, "--dry-run"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["score", "worth"])
def test_labels_are_finite_and_may_have_any_name(make: Make, tmp_path: Path, name: str) -> None:
    pool, scores = tmp_path / "pool.parquet", [float(number) for number in range(12)]
    pq.write_table(pa.table({"instruction": [f"Explain {i}" for i in range(12)], name: scores}), pool)
    assert found(compare(make(pool=str(pool), labels=name)), "longest", "worth").mean > 0
    scores[3] = float("inf")
    pq.write_table(pa.table({"instruction": [f"Explain {i}" for i in range(12)], name: scores}), pool)
    with pytest.raises(UsageError, match=f"'{name}' of labels holds infinite numbers"):
        compare(make(pool=str(pool), labels=name))


def test_a_file_of_others_is_not_written_over(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"would write over .*summary\.csv"):
        compare(make(out=str(tmp_path / "out")))
    assert (tmp_path / "out" / "summary.csv").read_text() == "mine"


def test_a_folder_of_an_earlier_comparison_is_written_over(make: Make, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    compare(make(out=out))
    compare(make(out=out, budgets=(4,)))
    assert set(pq.read_table(tmp_path / "out" / "selections.parquet")["budget"].to_pylist()) == {4}


def test_names_of_files_and_columns_are_no_markup(make: Make, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>|x.jsonl"
    (tmp_path / "dir").mkdir()
    pool = tmp_path / name.replace("/", "_")
    pool.write_bytes(Path(make().pool).read_bytes())
    compare(make(pool=str(pool), out=str(tmp_path / "out")))
    assert "<script>" not in (tmp_path / "out" / "comparison.html").read_text("utf-8")
    assert "<script>" not in (tmp_path / "out" / "comparison.md").read_text("utf-8")


def outcome(strategy: str, seed: int, value: float, ids: str = "ab") -> Outcome:
    return Outcome(Cell(strategy, None, 2, seed), tuple(ids), {"novelsum": value})


def test_differences_are_paired_by_seed() -> None:
    values = [0.0, 10.0, 20.0, 30.0]
    outcomes = [outcome("random", seed, value) for seed, value in enumerate(values)]
    outcomes += [outcome("other", seed, value + 1) for seed, value in enumerate(values[:3])]
    _, other = estimates(outcomes)
    assert other.difference is not None
    assert (other.difference.mean, other.difference.low, other.difference.high) == (1, 1, 1)
    assert other.verdict == "not different", "its mean is what random draws reach"


def test_a_difference_beyond_the_band_is_called_one() -> None:
    outcomes = [outcome("random", seed, float(seed % 5)) for seed in range(20)]
    outcomes += [outcome("above", 0, 9.0), outcome("below", 0, -9.0), outcome("within", 0, 2.0)]
    verdicts = {estimate.way[0]: estimate.verdict for estimate in estimates(outcomes)}
    assert verdicts == {"random": None, "above": "higher", "below": "lower", "within": "not different"}


def test_overlap_is_a_mean_over_seeds() -> None:
    outcomes = [outcome("random", 0, 0, "ab"), outcome("random", 1, 0, "cd"), outcome("fixed", 0, 0, "ac")]
    shares = overlaps(outcomes, 2)
    random, fixed = ("random", None), ("fixed", None)
    assert shares[random, random] == 0
    assert shares[random, fixed] == shares[fixed, random] == pytest.approx(1 / 3)
    assert shares[fixed, fixed] == 1


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


def test_selectors_of_one_strategy_are_compared_with_each_other(make: Make, tmp_path: Path) -> None:
    settings = make(
        strategies=("selectllm",), selectors=("scripted:first", "scripted:longest"), out=str(tmp_path / "o")
    )
    (agreement,) = compare(settings).agreements
    assert (agreement.strategy, agreement.budget) == ("selectllm", 8)
    assert agreement.selectors == ("scripted:first", "scripted:longest")
    assert agreement.kendalls_tau is not None
    assert -1 <= agreement.kendalls_tau < 1
    assert agreement.top_overlap is not None
    assert 0 <= agreement.top_overlap < 1
    text = (tmp_path / "o" / "comparison.md").read_text("utf-8")
    assert f"| selectllm | 8 | scripted:first | scripted:longest | {agreement.kendalls_tau:.2f} |" in text
    assert "Two independent draws would have 0.12." in text


def test_pictures_show_odd_and_long_names_of_selectors_as_text() -> None:
    names = ("ollama:</text><script>alert(1)</script>&\"'", "openai:" + "organisation/" * 2 + "model-a")
    outcomes = [
        Outcome(
            Cell(strategy, selector, 2, seed), ("a", str(seed)), {"facility_location": seed / 4, "vendi": seed + 1.0}
        )
        for strategy, selector in (("random", None), *(("selectllm", name) for name in names))
        for seed in range(3)
    ]
    for picture in draw(estimates(outcomes), outcomes).values():
        texts = [
            "".join(node.itertext()) for node in ElementTree.fromstring(picture).iter() if node.tag.endswith("text")
        ]
        assert "<script" not in picture
        assert {f"selectllm by {name}" for name in names} <= set(texts)


def test_a_legend_names_all_of_many_ways() -> None:
    outcomes = [
        Outcome(Cell(name, None, 2, seed), ("a", str(seed)), {"facility_location": seed / 4, "vendi": seed + 1.0})
        for name in ("random", *(f"way-{number}" for number in range(40)))
        for seed in range(2)
    ]
    assert ">way-39<" in draw(estimates(outcomes), outcomes)["coverage"]
