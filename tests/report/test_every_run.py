"""Every kind of run has a report, exports and annotations that agree with its selection."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from selectllm import RunSettings, select
from selectllm.errors import SelectLLMError, StoreError
from selectllm.export.annotations import compare_annotations
from selectllm.export.export import export_selection
from selectllm.export.names import Target, Training
from selectllm.export.options import ExportOptions
from selectllm.export.training import write_training
from selectllm.report.result import Result
from selectllm.steps import measure_likelihoods
from tests.conftest import by_rating, write_pool
from tests.report.pages import Page

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding", "quick_scripts")


@pytest.fixture
def quick_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vega's scripts take seconds to put together."""
    monkeypatch.setattr("selectllm.report.page.scripts.vega", lambda: "window.vegaEmbed = () => {};")


class ByLength:
    """A model to which a text has the log-probability of its length."""

    name, digest = "by-length", "by-length"

    def measure(self, texts: list[str]) -> np.ndarray:
        return np.array([[-float(len(text)), len(text.split()), len(text.split())] for text in texts], dtype=np.float32)


def odd_pool(path: Path) -> str:
    """Rows in which everything is odd at once: markup, marks that turn texts, surrogates, all types."""
    rows: list[dict[str, Any]] = [
        {
            "instruction": f"</script><b>{n}</b>\u202e {{{{ {n} }}}} " + "word " * (n % 7),
            "input": "<td>\x00" if n % 3 else None,
            "group": ["a\ud801", "</td>", None][n % 3],
            "list": [n, None],
            "number": n / 7,
        }
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


RUNS: dict[str, dict[str, Any]] = {
    **{name: {"strategy": name} for name in ("random", "longest", "shortest", "stratified", "kcenter", "facility")},
    **{name: {"strategy": name} for name in ("probcover", "novelselect", "rouge-diversity", "qdit")},
    **{name: {"strategy": name, "selector": "ollama:m"} for name in ("alpagasus", "deita", "open-endedness")},
    **{f"perplexity-{side}": {"strategy": f"perplexity-{side}", "selector": "embedded"} for side in ("low", "mid")},
    "tiers": {"ranking": {"gather": "tiers"}},
    "ratings": {"ranking": {"gather": "ratings"}},
    "reasons": {"selector": "ollama:m", "reasons": True},
    "spread": {"diversity": 0.5, "near_duplicate": 0.99},
    "one row": {"budget": 1},
    "all rows": {"budget": 60},
    "history": {"history": "nightly", "slot": "1"},
    "strata": {"aim": {"stratify": "group"}},
    "quota": {"aim": {"quota": ["group:</td>=3"]}},
    "target": {"aim": {"target": "examples.jsonl", "target_rows": 20}},
    "away": {"aim": {"away_from": ["examples.jsonl"]}},
    "random target": {"strategy": "random", "aim": {"target": "examples.jsonl", "target_rows": 9}},
}


@pytest.mark.parametrize("kind", RUNS)
def test_every_run_has_a_report_exports_and_annotations(
    kind: str, make_run: MakeRun, fake_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_model(by_rating)
    monkeypatch.setattr(measure_likelihoods, "open_likelihood", lambda _: ByLength())
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path / "examples.jsonl", 3)
    result = select(make_run(**{"pool": odd_pool(tmp_path / "odd.jsonl"), **RUNS[kind]}))
    ids: list[str] = result.table()["id"].to_pylist()
    check_report(result, ids)
    for to in get_args(Target):
        options = ExportOptions(model="gpt-x" if to == "openai-batch" else None)
        assert export_selection(result.store, to, tmp_path / to, options=options).rows == len(ids)
    answers = "".join(json.dumps({"id": id, "answer": f"Answer {n}"}) + "\n" for n, id in enumerate(ids))
    (tmp_path / "answers.jsonl").write_text(answers)
    annotated = compare_annotations(result.store, [str(tmp_path / "answers.jsonl")])
    assert list(annotated.answers) == ids
    for layout in get_args(Training):
        assert write_training(annotated, layout, tmp_path / f"{layout}.jsonl") == len(ids)


def check_report(result: Result, ids: list[str]) -> None:
    page = Page(result.report())
    assert page.unpack("rows")["id"] == [id[:12] for id in ids]
    assert f"{len(ids)} of 60 rows chosen" in page.text
    assert "is left out" not in page.text, "no table is missing"
    assert not [attributes for tag, attributes in page.elements if tag == "b"]


@pytest.mark.parametrize("gather", ["tiers", "ratings"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_smallest_pools_have_reports(rows: int, gather: str, make_run: MakeRun, tmp_path: Path) -> None:
    result = select(make_run(rows, budget=1, ranking={"gather": gather}))
    page = Page(result.report())
    assert f"1 of {rows} rows chosen" in page.text
    assert len(page.unpack("rows")["id"]) == 1
    assert export_selection(result.store, "argilla", tmp_path / "argilla").rows == 1
    assert "<td" in result._repr_html_()


def test_a_report_tells_quotas_and_whose_rows_its_map_shows(make_run: MakeRun, tmp_path: Path) -> None:
    examples = write_pool(tmp_path / "examples.jsonl", 3)
    aim = {"target": str(examples), "target_rows": 30, "quota": ["group:</td>=3"]}
    text = Page(select(make_run(pool=odd_pool(tmp_path / "odd.jsonl"), aim=aim, strategy="longest")).report()).text
    assert 'By group: 3 of 9 with "</td>", 2 of 21 with any other value.' in text
    assert "of the shortlist of 30 rows, not of the whole pool" in text


def test_a_report_maps_a_shortlist_that_stands_in_few_parts_of_all_vectors(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectllm.store.tables.BATCH_ROWS", 2)
    examples = write_pool(tmp_path / "examples.jsonl", 3)
    aim = {"target": str(examples), "target_rows": 3}
    page = Page(select(make_run(rows=60, budget=2, strategy="random", aim=aim)).report())
    assert page.unpack("map")["row"] == [1, 2, 3]


def test_a_report_says_which_costs_are_estimates(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(by_rating)
    run = make_run(selector="openai:gpt-4o-mini")
    assert "(about, in USD by list prices of 20" in Page(select(run).report()).text
    told = Page(select(run.model_copy(update={"ranking": run.ranking.model_copy(update={"price_in": 1.0})})).report())
    assert "list prices" not in told.text


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "noise":
            middle = len(content) // 2
            path.write_bytes(content[: middle - 40] + b"\xff" * 80 + content[middle + 40 :])
        case "other":
            path.write_bytes(b"{" * len(content))


@pytest.mark.parametrize("how", ["gone", "cut", "noise", "other"])
def test_whatever_is_damaged_is_named_and_nothing_else_is_raised(
    how: str, make_run: MakeRun, fake_model: Any, tmp_path: Path
) -> None:
    fake_model(by_rating)
    run = make_run(
        pool=odd_pool(tmp_path / "odd.jsonl"), selector="ollama:m", reasons=True, ranking={"gather": "ratings"}
    )
    result = select(run)
    ids = result.table()["id"].to_pylist()
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps({"id": id, "answer": "A"}) + "\n" for id in ids))
    root = Path(result.store.root)
    files = [file for file in root.rglob("*") if file.is_file() and file.suffix in (".json", ".parquet", ".jsonl")]
    assert {file.parent.name for file in files} >= {"selection", "pool", "rankings", "ratings", "reasons", "runs"}
    for number, file in enumerate(sorted(files)):
        kept = file.read_bytes()
        damage(file, how)
        try:
            shown = [told(lambda: Page(result.report()).text)]
            for to in ("argilla", "hf"):
                path = tmp_path / f"{how}-{number}-{to}"
                shown.append(told(lambda to=to, path=path: export_selection(result.store, to, path, result.run)))
            shown.append(told(lambda: compare_annotations(result.store, [str(tmp_path / "answers.jsonl")])))
            told(lambda: result._repr_html_())
        finally:
            file.write_bytes(kept)
        if file.parent.name == "selection":
            assert all(isinstance(one, StoreError) for one in shown), file


def told(work: Callable[[], Any]) -> Any:
    """What comes of some work: its result, or the error of ours that says what is wrong."""
    try:
        return work()
    except SelectLLMError as error:
        return error
