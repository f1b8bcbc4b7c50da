"""The page of a run: what is on it, how much it holds, and that nothing of a pool becomes markup."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from selectllm import RunSettings, select
from selectllm.cli.main import main
from selectllm.errors import MissingDependency, StoreError, UsageError
from selectllm.llm.model import Reply, Request
from selectllm.report.page import map as pool_map
from selectllm.report.page import replies, rows
from selectllm.report.page.build import MARK, build_page
from selectllm.report.page.scripts import policy, template, vega
from selectllm.report.result import Result
from selectllm.store import Store
from tests.conftest import by_id, write_pool
from tests.report.pages import EVIL, Page, hostile_rows

MakeRun = Callable[..., RunSettings]
SCRIPT = "window.vegaEmbed = () => {};"
pytestmark = pytest.mark.usefixtures("quick_embedding", "quick_scripts")


@pytest.fixture
def quick_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vega's scripts take seconds to put together."""
    monkeypatch.setattr("selectllm.report.page.scripts.vega", lambda: SCRIPT)


def with_columns(path: Path, count: int) -> str:
    lines = [
        {"instruction": f"Task {n}: " + "explain it " * (n % 17 + 1), "source": "ab"[n % 2], "number": n, "ok": n < 9}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"instruction": ""}]), encoding="utf-8")
    return str(path)


def page_of(result: Result) -> Page:
    return Page(result.report())


def test_a_page_shows_every_chosen_row_and_where_it_comes_from(make_run: MakeRun, tmp_path: Path) -> None:
    result = select(make_run(pool=with_columns(tmp_path / "p.jsonl", 60), budget=9, ranking={"gather": "ratings"}))
    page = page_of(result)
    table, chosen = page.unpack("rows"), result.table()
    assert chosen["order"].to_pylist() == list(range(1, 10)), "the page numbers rows by their places"
    assert table["text"] == [text.lstrip() for text in chosen["instruction"].to_pylist()]
    assert [id[:12] for id in chosen["id"].to_pylist()] == table["id"]
    number = dict(zip(*(result.table("pool")[name].to_pylist() for name in ("id", "row")), strict=True))
    assert table["row"] == [number[id] for id in chosen["id"].to_pylist()]
    assert table["length"] == [len(text) for text in chosen["instruction"].to_pylist()]
    assert all(why.startswith("rated ") for why in table["why"])
    source = [table["groups"][0]["names"][code] for code in table["groups"][0]["codes"]]
    assert source == chosen["source"].to_pylist()
    assert json.loads(page.scripts["columns"]) == ["source", "ok"], "a column of many values divides nothing"
    assert "9 of 60 rows chosen" in page.text
    for heading in ("Map of the pool", "By cluster", "By the column source", "Lengths", "Ratings near the cut"):
        assert heading in page.text
    assert "the instruction is empty 1 61" in page.text, "what was quarantined, how often, and where first"
    assert "fixed rule" in page.text
    for key in result.summary["artifacts"].values():
        assert key in page.text


def test_the_charts_count_what_the_tables_hold(make_run: MakeRun, tmp_path: Path) -> None:
    result = select(make_run(pool=with_columns(tmp_path / "p.jsonl", 60), budget=9, ranking={"gather": "ratings"}))
    charts = json.loads(page_of(result).scripts["charts"])
    chosen = set(result.table()["id"].to_pylist())

    def values(key: str) -> list[dict[str, Any]]:
        return charts[key]["layer"][0].get("data", charts[key].get("data"))["values"]  # type: ignore[no-any-return]

    clusters: dict[str, list[str]] = {}
    for row in result.table("queries").to_pylist():
        clusters.setdefault(f"cluster {row['position'] + 1}", []).append(row["id"])
    assert {row["name"]: (row["rows"], row["chosen"]) for row in values("groups-0")} == {
        name: (len(ids), len(chosen & {*ids})) for name, ids in clusters.items()
    }
    lengths = values("lengths")
    assert sum(row["rows"] for row in lengths if row["side"] == "chosen") == 9
    assert sum(row["rows"] for row in lengths if row["side"] == "left out") == 51
    picks = result.summary["ranking"]["ranked"]
    assert sum(row["picks"] for row in values("positions")) == picks
    assert sum(row["even"] for row in values("positions")) == pytest.approx(picks, abs=0.5)
    rated = values("ratings")
    assert [row["rating"] for row in rated] == sorted((row["rating"] for row in rated), reverse=True)
    assert sum(row["side"] == "chosen" for row in rated) == 9
    assert len(rated) == 9 + 30


@pytest.mark.parametrize("strategy", ["random", "longest"])
def test_a_strategy_without_a_model_has_a_page(strategy: str, make_run: MakeRun) -> None:
    page = page_of(select(make_run(strategy=strategy, selector="scripted:longest")))
    assert "no model was asked" in page.text
    assert "How the model ranked" not in page.text
    assert "Map of the pool" not in page.text
    assert len(page.unpack("rows")["id"]) == 5


def test_equal_runs_give_equal_pages(make_run: MakeRun) -> None:
    result = select(make_run())
    assert result.report() == result.report() == build_page(result.store, result.run)


def test_a_page_holds_the_replies_with_the_position_of_the_row(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(lambda request: Reply(by_id(request), "stop", 10, 2, thinking="Hm."))
    result = select(make_run(budget=6, ranking={"gather": "tiers"}))
    packed = page_of(result).unpack("replies")
    assert len(packed["rows"]) == 6
    for row, told in zip(result.table().to_pylist(), packed["rows"], strict=True):
        key, position = told[0]
        reply = packed["replies"][key]
        assert reply["question"].startswith(f"query {row['query_id']}")
        assert json.loads(reply["text"])["ranking"][row["rank"] - 1] == position
        assert reply["thinking"] == "Hm."


def test_a_page_holds_no_more_than_it_has_room_for(
    make_run: MakeRun, fake_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(0x4E00, 0x9F00, 3000))) for _ in range(40)]
    pool = tmp_path / "p.jsonl"
    pool.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in texts), encoding="utf-8")
    fake_model(lambda request: Reply(by_id(request), "stop", 10, 2, thinking=texts[int(request.shown[0][:4], 16) % 40]))
    monkeypatch.setattr(rows, "MOST_BYTES", 20_000)
    monkeypatch.setattr(replies, "MOST_BYTES", 20_000)
    monkeypatch.setattr(replies, "MOST_ROWS", (20, 10, 5, 2, 0))
    result = select(make_run(pool=str(pool), budget=20, queries={"size": 2}))
    page = page_of(result)
    assert len(page.scripts["packed-rows"]) <= 20_000
    assert len(page.scripts["packed-replies"]) <= 20_000
    shown = {len(text.rstrip("…")) for text in page.unpack("rows")["text"]}
    assert shown <= {*rows.TEXT_LENGTHS} - {0}
    assert f"at most {max(shown):,} characters of each text" in page.text
    count = len(page.unpack("replies")["rows"])
    assert 0 < count < 20
    assert f"replies about the first {count} of them" in page.text


def test_a_large_pool_is_sampled_for_the_map_and_all_chosen_rows_are_on_it(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_map, "MOST_POINTS", 30)
    monkeypatch.setattr("selectllm.report.page.build.MOST_POINTS", 30)
    result = select(make_run(budget=7))
    page = page_of(result)
    points = page.unpack("map")
    assert sorted(filter(None, points["order"])) == list(range(1, 8))
    assert len(points["row"]) == len(set(points["row"])) == 30
    assert "shows 30 of 60 rows" in page.text
    assert [len(axis) for axis in points["places"]["PCA"]] == [30, 30]
    assert {min(axis) for axis in points["places"]["PCA"]} == {0}
    assert {max(axis) for axis in points["places"]["PCA"]} == {1000}


def test_umap_draws_a_second_map_where_it_is_installed(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    class Umap:
        def __init__(self, **options: Any) -> None:
            assert options["random_state"] == 3

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, 2:4]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap, __spec__=SimpleNamespace()))
    result = select(make_run(seed=3))
    places = page_of(result).unpack("map")["places"]
    assert list(places) == ["PCA", "UMAP"]
    assert places["PCA"] != places["UMAP"]
    assert list(Page(build_page(result.store, umap=False)).unpack("map")["places"]) == ["PCA"]


def test_rows_left_out_are_read_without_their_texts(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    result = select(make_run(budget=3, ranking={"gather": "tiers"}))
    page = result.report()
    left = set(result.table("pool")["instruction"].to_pylist()) - set(result.table()["instruction"].to_pylist())
    packed = Page(page).unpack("rows")
    assert not left & {*packed["text"]}
    assert not [text for text in left if text in page]
    monkeypatch.setattr(Store, "read", lambda *_: pytest.fail("a whole table is read"))
    assert result.report() == page


def test_a_table_that_is_gone_is_named_and_the_page_goes_on(make_run: MakeRun) -> None:
    result = select(make_run())
    for kind in ("pool", "embeddings", "quarantine"):
        Path(result.path(kind)).unlink()
    page = page_of(result)
    for kind in ("pool", "embeddings", "quarantine"):
        assert f"The table {kind} is gone" in page.text
    assert len(page.unpack("rows")["id"]) == 5
    Path(result.path()).write_bytes(b"no table")
    with pytest.raises(StoreError, match="its selection was cut short or added to"):
        result.report()


def test_a_store_of_the_first_version_has_a_page(tmp_path: Path) -> None:
    store = shutil.copytree(Path(__file__).parents[1] / "data" / "store-0.1.0" / "store", tmp_path / "store")
    page = Page(build_page(Store(str(store))))
    assert "7 of 40 rows chosen" in page.text
    assert len(page.unpack("replies")["rows"]) == 7
    assert "Map of the pool" in page.text


@pytest.mark.parametrize("package", ["altair", "jinja2", "vl_convert"])
def test_a_missing_package_is_named_with_its_extra(
    package: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = select(make_run())
    monkeypatch.undo()
    monkeypatch.setattr("selectllm.report.page.scripts.vega", vega)
    vega.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"selectllm\[report\]"):
        result.report()


def hostile_run(make_run: MakeRun, fake_model: Any, folder: Path) -> Result:
    """A run over hostile rows, by a model whose thoughts and reasons are hostile too."""
    pool = folder / "hostile.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in hostile_rows()), encoding="utf-8")

    def answer(request: Request) -> Reply:
        is_reason = "reason" in (request.schema or {}).get("properties", {})
        text = json.dumps({"reason": EVIL[:80]}) if is_reason else by_id(request)
        return Reply(text, "stop", 10, 2, thinking=EVIL)

    fake_model(answer)
    return select(make_run(pool=str(pool), budget=120, reasons=True, selector="ollama:m"))


def test_nothing_of_a_hostile_pool_becomes_markup(make_run: MakeRun, fake_model: Any, tmp_path: Path) -> None:
    page = page_of(hostile_run(make_run, fake_model, tmp_path))
    harmless = page_of(select(make_run(budget=20, ranking={"gather": "ratings"}, store=str(tmp_path / "harmless"))))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in harmless.elements} | {"pre"}
    assert sum(tag == "script" for tag, _ in page.elements) == sum(tag == "script" for tag, _ in harmless.elements)
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcdoc", "style")]
        assert attributes.get("href", "#").startswith("#")
        assert tag != "script" or attributes.get("type") in (None, "application/json", "text/plain")
    for name, script in page.scripts.items():
        assert name.isdigit() or "<" not in script
    assert EVIL in "".join(page.unpack("rows")["text"])
    assert EVIL in json.dumps(page.unpack("replies"))
    told = [text for column in ("text", "input", "reason") for text in page.unpack("rows")[column]]
    assert not [text for text in told if any(mark in text for mark in "\u202e\u2066\u200b\x1b\x00")]


def test_a_page_runs_its_own_scripts_alone_and_loads_nothing(make_run: MakeRun) -> None:
    page = page_of(select(make_run()))
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules["script-src"].split()) == {f"'sha256-{digest}'" for digest in page.hashes}
    assert rules["img-src"] == "data:"
    assert page.policy == policy(SCRIPT, template("page.js"))


def test_the_command_writes_a_page_and_writes_over_nothing_else(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_run()
    first, second = select(settings), select(settings.model_copy(update={"budget": 6}))
    file = tmp_path / "page.html"
    arguments = ["report", "--store", settings.store, "--out", str(file)]
    assert main(arguments) == 0
    assert file.read_text(encoding="utf-8") == second.report()
    assert MARK in file.read_bytes()
    assert main([*arguments, str(first.run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert told == {"run": first.run, "report": str(file), "bytes": file.stat().st_size}
    for named in (["--run", str(first.run)], [str(first.run), "--run", str(first.run)]):
        assert main([*arguments, *named, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["run"] == first.run
    for named in (["no-such-run"], ["--run", "no-such-run"]):
        assert main([*arguments, *named]) == 2
        assert "no run no-such-run" in capsys.readouterr().err
    assert main([*arguments, str(first.run), "--run", str(second.run)]) == 2
    assert f"two runs are named, {first.run} and --run {second.run}" in capsys.readouterr().err

    foreign = write_pool(tmp_path / "pool.jsonl", 3)
    before = foreign.read_bytes()
    for out in (foreign, tmp_path, tmp_path / "absent" / "page.html"):
        assert main([*arguments[:-1], str(out)]) == 2
        assert "name " in capsys.readouterr().err
    with pytest.raises(UsageError, match="is no report of a run"):
        first.report(foreign)
    assert foreign.read_bytes() == before
    assert first.report(file) == file.read_text(encoding="utf-8")


def test_a_page_in_a_folder_that_may_not_be_written_to_is_refused_at_once(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    select(run)
    monkeypatch.setattr("selectllm.report.page.build.os.access", lambda *_: False)  # root may write everywhere
    assert main(["report", "--store", run.store, "--out", str(tmp_path / "page.html")]) == 2
    assert "its folder may not be written to. Name another one" in capsys.readouterr().err


def test_rows_that_could_not_be_chosen_are_not_shown_near_the_cut(make_run: MakeRun, tmp_path: Path) -> None:
    settings = make_run(budget=9, ranking={"gather": "ratings"})
    first = select(settings)
    taken = tmp_path / "taken.parquet"
    pq.write_table(first.table().select(["id"]), taken)
    second = select(settings.model_copy(update={"exclude": (str(taken),)}))
    charts = json.loads(page_of(second).scripts["charts"])
    rated = charts["ratings"].get("data", charts["ratings"]["layer"][0].get("data"))["values"]
    numbers = dict(zip(*(second.table("pool")[name].to_pylist() for name in ("id", "row")), strict=True))
    assert not {row["row"] for row in rated} & {numbers[id] for id in first.table()["id"].to_pylist()}
