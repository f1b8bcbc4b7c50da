import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm import select
from selectllm.errors import StoreError, UsageError
from selectllm.settings import RunSettings
from selectllm.store import Artifact, Store
from selectllm.store.runs import RunRecord, StepRecord, list_runs, load_latest, load_run, load_runs, save_run

MakeRun = Callable[..., RunSettings]


def record(run: str, **fields: Any) -> RunRecord:
    step = StepRecord(kind="selection", key="5e1ec7", facts={"selected": 2})
    return RunRecord(**{"run": run, "steps": (step,), "summary": {"artifacts": {"quarantine": "9a7a"}}, **fields})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_a_record_reads_back_unchanged_and_the_last_is_the_latest(store: Store) -> None:
    assert (load_latest(store), load_runs(store)) == (None, [])
    records = [record("20260101T000000Z-a"), record("20260102T000000Z-b", strategy="random")]
    for each in records:
        save_run(store, each)
    assert list_runs(store) == ["20260102T000000Z-b", "20260101T000000Z-a"]
    assert load_runs(store) == records[::-1]
    assert load_run(store) == load_latest(store) == records[1]
    assert load_run(store, "20260101T000000Z-a") == records[0]


def test_a_record_names_its_steps_and_artifacts() -> None:
    run = record("r")
    assert run.artifact("selection") == Artifact(kind="selection", key="5e1ec7")
    assert run.step("selection") == run.steps[0]
    assert (run.step("rankings"), run.artifact("rankings")) == (None, None)
    assert run.keys == {"5e1ec7", "9a7a"}


def test_a_run_records_its_steps_in_order_with_their_facts(make_run: MakeRun, quick_embedding: object) -> None:
    settings = make_run(budget=7)
    select(settings)
    select(settings)
    store = Store(settings.store)
    latest = load_latest(store)
    assert latest is not None
    first = next(run for run in load_runs(store) if run != latest)  # their names contain only seconds
    assert [step.kind for step in first.steps] == [
        *("pool", "embeddings", "queries", "rankings", "tournament", "preferences", "selection")
    ]
    assert [step.key for step in latest.steps] == [step.key for step in first.steps]
    assert all(step.cached for step in latest.steps)
    assert not any(step.cached for step in first.steps)
    rankings = first.step("rankings")
    assert rankings is not None
    assert rankings.asked == rankings.facts["replies"] > 0
    assert (first.settings["budget"], first.strategy, (first.model or {})["kind"]) == (7, "selectllm", "scripted")


def test_a_record_of_version_0_1_is_read_into_the_same_type(store: Store) -> None:
    summary = {
        "artifacts": {"pool": "a", "selection": "b"},
        "seconds": {"pool": 1.5},
        "cached": ["pool"],
        "model": {"name": "m", "quality": "demo"},
    }
    store.write_bytes("runs/old.json", json.dumps({"run": "old", "settings": {"seed": 0}, "summary": summary}).encode())
    old = load_run(store, "old")
    pool, selection = old.steps
    assert (pool.kind, pool.key, pool.seconds, pool.cached) == ("pool", "a", 1.5, True)
    assert (selection.kind, selection.key, selection.seconds, selection.cached) == ("selection", "b", 0.0, False)
    assert (old.model, old.strategy) == ({"name": "m", "kind": "demo"}, "selectllm")


BROKEN = (
    *(b"", b"{", b"[]", b"{}", b"5", b"null", b"\xff", b"[" * 99_999, b'{"run": "x"}', b'{"run": "x", "summary": 5}'),
    *(b'{"run": "x", "summary": {"artifacts": 5}}', b'{"run": "x", "steps": [], "summary": {"artifacts": 5}}'),
    *(b'{"run": "x", "steps": [{}], "summary": {"artifacts": {}}}', b'{"run": "x", "steps": [], "summary": {}}'),
    b'{"run": "x", "steps": [], "summary": {"artifacts": {"pool": 5}}}',
)


@pytest.mark.parametrize("content", BROKEN)
def test_an_invalid_record_is_one_error_that_names_the_file(content: bytes, store: Store) -> None:
    for name in ("runs/x.json", "latest/selection.json"):
        store.write_bytes(name, content)
    for load, name in (
        (lambda: load_run(store, "x"), "runs/x.json"),
        (lambda: load_runs(store), "runs/x.json"),
        (lambda: load_run(store), "latest/selection.json"),
        (lambda: load_latest(store), "latest/selection.json"),
    ):
        with pytest.raises(StoreError, match=f"{name} is not the record of a run") as refused:
            load()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("../latest/selection", "is no name of a run"),
        ("", "is no name of a run"),
        ("none", "has no run none. The latest: r"),
        (None, None),
    ],
)
def test_an_unknown_run_is_bad_usage(run: str | None, message: str | None, store: Store) -> None:
    if message is None:
        with pytest.raises(UsageError, match=r"has no run yet. Choose rows first"):
            load_run(store)
        return
    save_run(store, record("r"))
    with pytest.raises(UsageError, match=message):
        load_run(store, run)
