import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selectllm import select
from selectllm.cli.format_store import format_pruned
from selectllm.cli.main import main
from selectllm.errors import StoreError, UsageError
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Artifact, Store, reports
from selectllm.store.inventory import scan
from selectllm.store.pruning import prune
from tests.conftest import FakeModel, top_k

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")

LATER = datetime.now(UTC) + timedelta(days=10)
"""A time at which all artifacts of the tests are ten days old."""


def names(store: Store) -> set[tuple[str, str]]:
    return {(item.artifact.kind, item.artifact.key) for item in scan(store).artifacts}


def closure(store: Store, kind: str, key: str) -> set[tuple[str, str]]:
    """An artifact and all its inputs; fails if one of them is damaged."""
    artifact = Artifact(kind=kind, key=key)
    manifest = store.manifest(artifact)
    assert manifest is not None
    assert store.is_intact(artifact)
    artifacts = {(kind, key)}
    for name in manifest.inputs:
        artifacts |= closure(store, name, manifest.made_from[name])
    for maker, name in (("pool", "quarantine"), ("queries", "centroids")):
        if kind == maker and manifest.facts.get(name):
            artifacts |= closure(store, name, manifest.facts[name])
    return artifacts


def lasting(store: Store) -> set[tuple[str, str]]:
    """The files that are never removed."""
    return {(kind, key) for kind, key in names(store) if kind in ("queries", "centroids")}


def of(result: Result) -> str:
    return str(result.summary["artifacts"]["selection"])


def fill(store: Store, slot: str, selection: str) -> None:
    """Make a history name a selection."""
    commit = {"slot": slot, "selection": selection, "budget": 1, "after": [], "ids": []}
    store.write_bytes(f"history/weekly/{slot}.json", json.dumps(commit).encode())


@pytest.fixture
def runs(make_run: MakeRun) -> list[RunSettings]:
    """Three runs that share some of their artifacts, done in this order."""
    return [make_run(budget=7), make_run(budget=20), make_run(rows=40, budget=5)]


@pytest.fixture
def results(runs: list[RunSettings]) -> list[Result]:
    return [select(run) for run in runs]


@pytest.fixture
def store(results: list[Result]) -> Store:
    return results[0].store


def test_prune_keeps_only_the_inputs_of_the_latest_selection(store: Store, results: list[Result]) -> None:
    before = names(store)
    done = prune(store, 5, now=LATER)
    assert names(store) == closure(store, "selection", of(results[-1])) | lasting(store)
    assert {(item.artifact.kind, item.artifact.key) for item in done.removed} == before - names(store)
    assert done.kept == len(names(store))
    assert done.unresolved == ()
    files = [path for path in Path(store.root, "v1/artifacts").rglob("[!.]*") if path.is_file()]
    assert len(files) == 2 * done.kept


def test_prune_keeps_selections_that_a_history_names(store: Store, results: list[Result]) -> None:
    fill(store, "monday", of(results[1]))
    prune(store, 0, now=LATER)
    kept = [closure(store, "selection", of(result)) for result in results[1:]]
    assert names(store) == set().union(*kept) | lasting(store)


@pytest.mark.parametrize("days", [11, 1e300, math.inf])
def test_prune_keeps_recent_artifacts(days: float, store: Store) -> None:
    before = names(store)
    assert prune(store, days, now=LATER).removed == ()
    assert names(store) == before


def test_prune_removes_the_reports_of_old_runs(store: Store, results: list[Result]) -> None:
    old, latest = "20200101T000000Z-0a1b2c3d", str(results[-1].run)
    for run in (old, latest, "by hand"):
        store.write_bytes(f"reports/{run}.html", b"<p>")
    planned = prune(store, 5, dry_run=True)
    assert len(store.list("reports")) == 3
    done = prune(store, 5)
    assert planned == dataclasses.replace(done, dry_run=True)
    assert (done.reports, done.bytes, done.record()["reports"]) == ({old: 3}, 3, [old])
    assert "Removed the reports of 1 run: 3 B of it." in format_pruned(done)
    assert prune(store, 5, now=LATER).reports == {}, "the latest run keeps its report"
    assert store.list("reports") == [f"reports/{latest}.html", "reports/by hand.html"]


def test_a_report_that_stands_for_a_later_run_is_as_old_as_that_run(
    store: Store, runs: list[RunSettings], results: list[Result]
) -> None:
    old, older, gone = (f"20200101T00000{number}Z-0a1b2c3d" for number in range(3))
    for run in (old, older):
        reports.keep_report(store, run, b"<p>")
    for run in (old, older, gone):
        reports.note_report(store, f"about {run}", run, b"<p>", "")
    assert reports.find_report(store, f"about {old}", str(results[-1].run))
    assert reports.find_report(store, f"about {gone}", str(results[-1].run)) is None
    assert prune(store, 5, dry_run=True).reports == {older: 3}
    assert len(store.list("kept_reports")) == 3
    assert prune(store, 5, now=LATER).reports == {older: 3}
    assert store.list("reports") == [f"reports/{old}.html"]
    assert store.list("kept_reports") == [f"kept_reports/about {old}.json"]
    select(runs[-1])  # a later run that shows no report
    assert prune(store, 5, now=LATER).reports == {old: 3}
    assert store.list("kept_reports") == []


def test_prune_never_removes_files_of_the_last_hour(store: Store) -> None:
    assert prune(store, 0).removed == ()
    assert prune(store, 0, now=datetime.now(UTC) + timedelta(minutes=59)).removed == ()
    assert prune(store, 0, now=datetime.now(UTC) + timedelta(minutes=61)).removed


def test_prune_keeps_older_artifacts_that_a_recent_run_reused(
    store: Store, runs: list[RunSettings], results: list[Result]
) -> None:
    # Its selection is old, not the latest, and named by no history. Only the record of the run is recent.
    name = f"{LATER - timedelta(days=1):%Y%m%dT%H%M%SZ}-00000000"
    store.write_bytes(
        f"runs/{name}.json",
        json.dumps({"run": name, "summary": {"artifacts": results[0].summary["artifacts"]}}).encode(),
    )
    prune(store, 5, now=LATER)
    assert closure(store, "selection", of(results[0])) <= names(store)
    assert ("selection", of(results[1])) not in names(store)


def test_prune_never_removes_replies_vectors_histories_or_records(store: Store, results: list[Result]) -> None:
    fill(store, "monday", of(results[0]))
    folders = ("replies", "vectors", "runs", "latest", "history")

    def kept() -> set[Path]:
        return {path for folder in folders for path in Path(store.root, "v1", folder).rglob("*") if path.is_file()}

    before = kept()
    prune(store, 0, now=LATER)
    assert kept() == before


def test_a_dry_run_reports_the_same_and_removes_nothing(store: Store) -> None:
    before = names(store)
    dry = prune(store, 0, dry_run=True, now=LATER)
    assert names(store) == before
    assert dry.removed == prune(store, 0, now=LATER).removed != ()
    assert "Would remove" in format_pruned(dry)


def test_reruns_over_a_pruned_store_send_no_request(make_run: MakeRun, fake_model: Callable[..., FakeModel]) -> None:
    model = fake_model()
    runs = [make_run(budget=7), make_run(budget=20), make_run(budget=5)]
    chosen = [select(run).table() for run in runs]
    store, asked = Store(runs[0].store), len(model.asked)
    assert prune(store, 0, now=LATER).removed
    assert [select(run).table() for run in runs] == chosen
    assert len(model.asked) == asked


def test_a_pool_that_grows_after_a_prune_needs_requests_only_for_new_rows(
    make_run: MakeRun, fake_model: Callable[..., FakeModel]
) -> None:
    model = fake_model()
    results = [select(make_run(rows=rows, budget=3)) for rows in (60, 90)]
    select(make_run(rows=40, budget=3, seed=1))
    store, queries = results[-1].store, results[-1].table("queries")
    assert prune(store, 0, now=LATER).removed
    assert ("embeddings", results[-1].summary["artifacts"]["embeddings"]) not in names(store)
    asked = len(model.asked)
    grown = select(make_run(rows=120, budget=3))
    assert grown.table("queries").slice(0, len(queries)) == queries
    old = set(queries["id"].to_pylist())
    ranked = [request.shown for request in model.asked[asked:] if top_k(request) < len(request.shown)]
    assert len(ranked) == 3
    assert not [id for shown in ranked for id in shown if id in old]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_any_prune_kept_selections_are_complete_and_reruns_are_cached(
    data: st.DataObject, make_run: MakeRun, tmp_path: Path
) -> None:
    location = tmp_path / "property"
    shutil.rmtree(location, ignore_errors=True)
    store = Store(str(location))
    drawn = st.fixed_dictionaries(
        {
            "rows": st.sampled_from([30, 45]),
            "budget": st.sampled_from([2, 5, 9, 14, 25]),
            "seed": st.integers(0, 1),
            "queries": st.sampled_from([{"size": 14}, {"size": 5, "composition": "random"}]),
        }
    )
    runs = [make_run(**fields, store=str(location)) for fields in data.draw(st.lists(drawn, min_size=1, max_size=5))]
    kept = []
    for number, run in enumerate(runs):
        result = select(run)
        if number == len(runs) - 1 or data.draw(st.booleans()):
            fill(store, str(number), of(result))
            kept.append((run, result))
    before = names(store)
    prune(store, 0, now=LATER)
    needed = set().union(*(closure(store, "selection", of(result)) for _, result in kept)) | lasting(store)
    assert names(store) == needed <= before
    for run, result in kept:
        again = select(run)
        assert of(again) == of(result)
        assert set(again.summary["cached"]) == set(again.summary["seconds"])
    assert names(store) == needed


def test_an_interrupted_prune_leaves_complete_artifacts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, removed = Store.remove, []

    def interrupted(self: Store, artifact: Artifact) -> None:
        if len(removed) == 3:
            raise KeyboardInterrupt
        removed.append(artifact)
        remove(self, artifact)

    monkeypatch.setattr(Store, "remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prune(store, 0, now=LATER)
    for kind, key in names(store) - lasting(store):
        closure(store, kind, key)


TORN = (b"", b"{", b"[]", b"{}", b'{"selection": null}', b'{"selection": 5}', b"\xff", b"[" * 99_999)


def test_an_unreadable_slot_stops_the_prune(store: Store) -> None:
    before = names(store)
    for torn in TORN:
        store.write_bytes("history/weekly/monday.json", torn)
        with pytest.raises(StoreError, match=r"^nothing was removed: .*monday\.json names no selection"):
            prune(store, 0, now=LATER)
    assert names(store) == before


@pytest.mark.parametrize("name", ["latest/selection.json", "runs/20260101T000000Z-00000000.json"])
def test_an_unreadable_record_stops_the_prune(name: str, store: Store) -> None:
    store.write_bytes(name, b'{"run": ')
    before = names(store)
    with pytest.raises(StoreError, match="nothing was removed"):
        prune(store, 0, now=LATER)
    assert names(store) == before


def test_an_unknown_selection_in_a_history_stops_the_prune(store: Store) -> None:
    fill(store, "monday", "0" * 32)
    before = names(store)
    with pytest.raises(StoreError, match="no record says what it was made from"):
        prune(store, 0, now=LATER)
    assert names(store) == before


def test_prune_keeps_the_inputs_of_a_missing_selection(store: Store, results: list[Result]) -> None:
    fill(store, "monday", of(results[0]))
    needed = closure(store, "selection", of(results[0]))
    store.remove(Artifact(kind="selection", key=of(results[0])))
    prune(store, 0, now=LATER)
    assert needed - {("selection", of(results[0]))} <= names(store)


@pytest.mark.parametrize("damage", ["remove", "tear"])
def test_prune_keeps_possible_inputs_of_a_kept_selection(damage: str, store: Store, results: list[Result]) -> None:
    lost = Artifact(kind="queries", key=results[-1].summary["artifacts"]["queries"])
    if damage == "remove":
        store.remove(lost)
    else:
        store.write_bytes(f"artifacts/queries/{lost.key}.json", b"{")
    before = names(store)
    done = prune(store, 0, now=LATER)
    assert names(store) == before
    assert [item.artifact.kind for item in done.unresolved] == ["rankings"]
    assert "so nothing older was removed" in format_pruned(done)


def test_prune_removes_old_files_of_dead_writers(store: Store) -> None:
    for number, ends in enumerate((["parquet"], ["parquet", "json"], ["json"])):
        for end in ends:
            store.write_bytes(f"artifacts/queries/{number:032}.{end}", b"{")
    left = {("queries", f"{number:032}") for number in range(3)}
    prune(store, 0)
    prune(store, 11, now=LATER)
    assert left <= names(store)
    prune(store, 9, now=LATER)
    assert not left & names(store)


def test_an_invalid_number_of_days_is_refused(tmp_path: Path) -> None:
    for days in (-1, -0.001, math.nan):
        with pytest.raises(UsageError, match="--keep-days"):
            prune(Store(str(tmp_path)), days)


def test_an_empty_store_has_nothing_to_prune(tmp_path: Path) -> None:
    done = prune(Store(str(tmp_path / "none")), 0)
    assert (done.removed, done.kept, done.bytes) == ((), 0, 0)
    assert not (tmp_path / "none").exists()


def test_object_stores_can_be_pruned(make_run: MakeRun) -> None:
    fsspec.filesystem("memory").store.clear()
    runs = [make_run(budget=budget, store="memory://pruning") for budget in (7, 20)]
    results = [select(run) for run in runs]
    store = results[0].store
    store.write_bytes(f"artifacts/pool/{'0' * 32}.parquet", b"PAR1")
    assert prune(store, 0, now=LATER).removed
    assert names(store) == closure(store, "selection", of(results[-1])) | lasting(store)
    fsspec.filesystem("memory").store.clear()


def made_old(store: Store) -> None:
    """Make all artifacts and runs of a store ten days older."""
    for item in scan(store).artifacts:
        assert item.manifest
        older = item.manifest.model_copy(update={"created": (datetime.now(UTC) - timedelta(days=10)).isoformat()})
        name = f"artifacts/{item.artifact.kind}/{item.artifact.key}.json"
        store.write_bytes(name, older.model_dump_json().encode())
    for name in store.list("runs"):
        record = json.loads(store.read_bytes(name))
        store.write_bytes(name, json.dumps(record | {"run": "20200101T000000Z-00000000"}).encode())


def test_the_prune_command_prints_removed_files_and_freed_bytes(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    made_old(store)
    arguments = ["artifacts", "prune", "--keep-days", "0.5", "--store", store.location]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    before = sum(item.bytes for item in scan(store).artifacts)
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"Removed {len(planned['removed'])} artifacts, " in printed.out
    assert f"; {planned['kept']} stay." in printed.out
    assert all(item["key"][:12] in printed.out for item in planned["removed"])
    assert before - sum(item.bytes for item in scan(store).artifacts) == planned["bytes"] > 0
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--keep-days"),
        (["--keep-days", "soon"], 2, "--keep-days"),
        (["--keep-days", "-1"], 2, "--keep-days"),
        (["--keep-days", "nan"], 2, "--keep-days"),
        (["--keep-days", "1"], 1, "monday.json"),
    ],
)
def test_prune_errors_are_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(str(tmp_path)).write_bytes("history/weekly/monday.json", b"{")
    assert main(["artifacts", "prune", *arguments, "--store", str(tmp_path)]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_prune_help_lists_what_is_never_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["artifacts", "prune", "--help"]) == 0
    help_text = " ".join(capsys.readouterr().out.split())
    for words in ("never removed", "--keep-days 30 --dry-run", "less than an hour"):
        assert words in help_text
