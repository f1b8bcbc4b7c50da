"""A comparison: its cells, its files, and that nothing is done twice."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from selectllm import select
from selectllm.cli.environment import with_environment
from selectllm.cli.main import main
from selectllm.comparison.cells import REFERENCE_SEEDS, Cell, cell_settings, list_cells
from selectllm.comparison.compare import compare
from selectllm.comparison.measures import measure
from selectllm.comparison.outcomes import run_cell
from selectllm.errors import UsageError
from selectllm.llm.model import Reply
from selectllm.schemas import COMPARISON, SELECTIONS
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context
from selectllm.store import Store
from tests.comparison.conftest import Make, found
from tests.conftest import FakeModel, by_id

pytestmark = pytest.mark.usefixtures("quick_embedding")


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
