"""Later runs over the same store: grown pools, damaged files and changed steps."""

import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from selectllm import select
from selectllm.errors import ContractError
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import Request
from selectllm.ranking import tournament
from selectllm.settings import RunSettings
from selectllm.steps import embed_rows
from selectllm.steps.cache import CacheEntry
from selectllm.store import Manifest, Store
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import FakeModel, HashEmbedder, top_k

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def grow(run: RunSettings, rows: Sequence[dict[str, Any]], *, without: int = 0) -> RunSettings:
    """Settings for another file: the same pool without its first rows, plus new rows."""
    old = Path(run.pool)
    kept = old.read_text(encoding="utf-8").splitlines()[without:]
    new = old.with_name(f"grown{len(rows)}-{without}.jsonl")
    new.write_text("\n".join([*kept, *map(json.dumps, rows)]) + "\n", encoding="utf-8")
    return run.model_copy(update={"pool": str(new)})


def new_rows(count: int, name: str = "new") -> list[dict[str, Any]]:
    return [{"instruction": f"A {name} question, number {n}: why?"} for n in range(count)]


def test_a_pool_that_grew_slightly_needs_requests_only_for_new_rows(
    make_run: MakeRun, quick_embedding: type[HashEmbedder]
) -> None:
    run = make_run(rows=3000, budget=200)
    first = select(run)
    embedded = quick_embedding.texts
    second = select(grow(run, new_rows(30)))
    assert quick_embedding.texts - embedded == 30
    calls = pc.count_distinct(first.table("queries")["query_id"]).as_py()
    played = sum(tournament.question_counts(len(second.table("tournament")), 14))
    assert second.summary["ranking"]["asked"] <= 0.02 * calls + played
    assert first.summary["ranking"]["asked"] > 0.98 * calls, "the stored replies made requests unnecessary"
    old, new = (result.table("queries") for result in (first, second))
    assert new.slice(0, len(old)).equals(old), "the old queries are unchanged"
    assert len(new) == 3030


def test_generations_are_counted_and_requery_starts_again(make_run: MakeRun) -> None:
    run = make_run(rows=280, budget=20)
    select(run)
    second = grow(run, new_rows(20))
    third = grow(run, new_rows(20) + new_rows(20, "newer"))
    results = [select(run) for run in (second, third)]
    facts = [result.store.manifest(result._artifact("queries")).facts for result in results]  # type: ignore[union-attr]
    assert [(fact["generation"], fact["formed"]) for fact in facts] == [(1, 20), (2, 20)]
    assert facts[0]["centroids"] == facts[1]["centroids"] is not None
    afresh = select(third.model_copy(update={"requery": True}))
    manifest = afresh.store.manifest(afresh._artifact("queries"))
    assert manifest is not None
    assert (manifest.facts["generation"], manifest.facts["formed"]) == (0, 320)
    assert select(third).summary["artifacts"] == afresh.summary["artifacts"], "the newly formed queries remain"
    apart = select(third.model_copy(update={"store": run.store + " apart"}))
    assert apart.table().equals(afresh.table()), "the result equals that of an empty store"


def test_only_queries_that_lost_a_row_are_dissolved(make_run: MakeRun) -> None:
    run = make_run(rows=280, budget=20)
    before = select(run).table("queries")
    lost = set(pc.unique(before["query_id"]).to_pylist())
    after = select(grow(run, [], without=3)).table("queries")
    kept = set(after["query_id"].to_pylist()) & lost
    assert len(after) == 277
    assert 17 <= len(kept) < 20
    for query in kept:
        rows = [table.filter(pc.equal(table["query_id"], query)) for table in (before, after)]
        assert rows[0].equals(rows[1])


def test_a_single_new_row_shares_a_query_with_other_rows(make_run: MakeRun) -> None:
    run = make_run(rows=280, budget=20)
    select(run)
    table = select(grow(run, new_rows(1))).table("queries")
    last = table.filter(pc.greater_equal(table["query_id"], 19))
    assert len(last) == 15
    assert sorted(size["counts"].as_py() for size in last["query_id"].value_counts()) == [7, 8]


def test_a_mostly_new_pool_is_divided_again(make_run: MakeRun) -> None:
    run = make_run(rows=60, budget=5)
    select(run)
    big = grow(run, new_rows(100))
    assert (
        select(big)
        .table("queries")
        .equals(select(big.model_copy(update={"store": run.store + " apart"})).table("queries"))
    )


def test_other_columns_or_another_order_change_no_query(
    make_run: MakeRun, fake_model: Callable[..., FakeModel]
) -> None:
    model = fake_model()
    run = make_run(rows=100, budget=5)
    first = select(run)
    asked = len(model.asked)
    lines = Path(run.pool).read_text(encoding="utf-8").splitlines()
    other = Path(run.pool).with_name("turned.jsonl")
    other.write_text(
        "\n".join(json.dumps(json.loads(line) | {"more": 1}) for line in reversed(lines)), encoding="utf-8"
    )
    second = select(run.model_copy(update={"pool": str(other)}))
    assert second.table("queries").equals(first.table("queries"))
    assert second.table()["id"].equals(first.table()["id"])
    assert len(model.asked) == asked


def test_an_interrupted_embedding_continues(
    make_run: MakeRun, quick_embedding: type[HashEmbedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_rows, "SHARD_ROWS", 10)
    whole, calls = HashEmbedder.embed, 0

    def third_time_dies(self: HashEmbedder, texts: Sequence[str]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return whole(self, texts)

    monkeypatch.setattr(HashEmbedder, "embed", third_time_dies)
    run = make_run(rows=60)
    with pytest.raises(KeyboardInterrupt):
        select(run)
    assert quick_embedding.texts == 20
    result = select(run)
    assert quick_embedding.texts == 60
    apart = select(run.model_copy(update={"store": run.store + " apart"}))
    assert result.summary["artifacts"] == apart.summary["artifacts"]


def test_a_smaller_pool_in_between_changes_no_query(make_run: MakeRun) -> None:
    run = make_run(rows=700, budget=5)
    first = select(run)
    lines = Path(run.pool).read_text(encoding="utf-8").splitlines()
    trial = Path(run.pool).with_name("trial.jsonl")
    trial.write_text("\n".join(lines[:400]) + "\n", encoding="utf-8")
    select(run.model_copy(update={"pool": str(trial), "requery": True}))
    grown = select(grow(run, new_rows(14)))
    assert grown.table("queries").slice(0, 700).equals(first.table("queries"))


@pytest.mark.parametrize("kind", ["queries", "centroids"])
@pytest.mark.parametrize("damage", ["deleted", "altered"])
def test_a_lost_earlier_generation_is_rebuilt_unchanged(
    kind: str, damage: str, make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(rows=280, budget=20)
    select(run)
    second = grow(run, new_rows(20))
    key = select(second).summary["artifacts"]["queries"]
    third = grow(run, new_rows(20) + new_rows(20, "newer"))
    expected = select(third).table("queries")
    for path in (Path(run.store) / "v1" / "artifacts" / "queries").glob("*.json"):  # the state before the third run
        if json.loads(path.read_text())["rows"] == 320:
            path.unlink()
            path.with_suffix(".parquet").unlink()
    names = {"queries": f"{key}.parquet", "centroids": "*.parquet"}
    (path,) = (Path(run.store) / "v1" / "artifacts" / kind).glob(names[kind])
    content = path.read_bytes()
    path.unlink()
    if damage == "altered":
        path.write_bytes(content[:-1] + b"\0")
    with caplog.at_level(logging.WARNING, "selectllm"):
        assert select(third).table("queries").equals(expected)
    assert path.read_bytes() == content
    assert path.name in caplog.text


def remove(run: RunSettings, *names: str) -> None:
    """Remove the files of the store's artifacts that match one of these patterns."""
    for name in names:
        for path in (Path(run.store) / "v1" / "artifacts").glob(name):
            path.unlink()


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("names", [("queries/*.parquet",), ("queries/*.parquet", "queries/*.json")])
def test_queries_are_built_again_when_nothing_is_left_of_earlier_generations(
    names: tuple[str, ...], grows: bool, make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(rows=280, budget=20)
    select(run)
    second = grow(run, new_rows(20))
    key = select(second).summary["artifacts"]["queries"]
    kept = Path(run.store) / "v1" / "artifacts" / "queries" / f"{key}.json"
    manifest = kept.read_bytes()
    remove(run, "embeddings/*", "centroids/*", *names)
    kept.write_bytes(manifest)  # it names the generation that is gone
    later = grow(run, new_rows(20) + new_rows(20, "newer")) if grows else second
    with caplog.at_level(logging.WARNING, "selectllm"):
        result = select(later)
    alone = select(later.model_copy(update={"store": run.store + " apart"}))
    assert result.table("queries").equals(alone.table("queries"))
    assert ("cannot be made again" in caplog.text) or not grows
    assert ("are gone: all are formed afresh" in caplog.text) is not grows


def test_new_rows_are_divided_by_other_centroids_when_those_of_the_first_generation_are_lost(
    make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(rows=280, budget=20)
    first = select(run)
    remove(run, "embeddings/*", "centroids/*.parquet")
    with caplog.at_level(logging.WARNING, "selectllm"):
        second = select(grow(run, new_rows(20)))
    assert "new rows are divided by others" in caplog.text
    assert second.table("queries").slice(0, 280).equals(first.table("queries"))
    assert len(second.table("queries")) == 300


def test_unusable_vectors_are_not_stored(
    make_run: MakeRun, quick_embedding: type[HashEmbedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = HashEmbedder.embed

    def sick(self: HashEmbedder, texts: Sequence[str]) -> Any:
        vectors = whole(self, texts)
        vectors[3] = float("nan")
        return vectors

    run = make_run(rows=60)
    with monkeypatch.context() as patch:
        patch.setattr(HashEmbedder, "embed", sick)
        with pytest.raises(ContractError, match="vectors are not finite"):
            select(run)
    assert len(select(run).table()) == 5, "the next run has a working model"


def test_a_new_embedding_code_version_embeds_every_row_again(
    make_run: MakeRun, quick_embedding: type[HashEmbedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(rows=60)
    select(run)
    monkeypatch.setattr("selectllm.embedding.models.CODE_VERSION", 99)
    assert select(run).summary["cached"] == ["pool"]
    assert quick_embedding.texts == 120


@pytest.mark.parametrize(
    "kind", ["pool", "quarantine", "embeddings", "queries", "rankings", "tournament", "preferences", "selection"]
)
@pytest.mark.parametrize("damage", ["deleted", "cut short", "altered", "no manifest"])
def test_a_damaged_artifact_is_detected_logged_and_rebuilt(
    kind: str, damage: str, make_run: MakeRun, fake_model: Callable[..., FakeModel], caplog: pytest.LogCaptureFixture
) -> None:
    model = fake_model()
    run = make_run(budget=7)
    first = select(run)
    asked = len(model.asked)
    path = Path(first.path(kind))
    content = path.read_bytes()
    if damage == "no manifest":
        path.with_suffix(".json").unlink()
    elif damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut short" else content[:-1] + b"\0")
    with caplog.at_level(logging.WARNING, "selectllm"):
        second = select(run)
    assert path.read_bytes() == content
    assert second.table().equals(first.table())
    assert len(model.asked) == asked, "the replies remain"
    remade = {"quarantine": "pool"}.get(kind, kind)
    assert set(second.summary["seconds"]) - set(second.summary["cached"]) == {remade}
    assert (path.name in caplog.text) == (damage != "no manifest")


def test_a_run_removes_old_temporary_files_and_keeps_recent_ones(make_run: MakeRun) -> None:
    import os
    import time

    run = make_run()
    select(run)
    folder = Path(run.store) / "v1" / "artifacts" / "pool"
    old, young = folder / ".a.parquet.01234567.tmp", folder / ".b.parquet.89abcdef.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    select(run)
    assert not old.exists()
    assert young.exists(), "its writer may still be active"


def test_a_budget_beyond_the_depth_is_announced_before_more_requests(
    make_run: MakeRun, fake_model: Callable[..., FakeModel], caplog: pytest.LogCaptureFixture
) -> None:
    model = fake_model()
    select(make_run(rows=60, budget=15))
    asked = len(model.asked)
    with caplog.at_level(logging.WARNING, "selectllm"):
        select(make_run(rows=60, budget=20))
    assert "15 rows that may be chosen are ranked, and the budget is 20: the next 3 of each query" in caplog.text
    assert len(model.asked) > asked


def test_a_concurrent_result_is_used_unless_it_is_unacceptable(make_run: MakeRun) -> None:
    run = make_run()
    store, table = Store(run.store), pa.table({"id": ["a"]})

    def entry(is_acceptable: Callable[[Manifest], bool] = lambda _: True) -> CacheEntry:
        result = CacheEntry(store, "rankings", 1, {}, {}, is_acceptable)
        assert result.load() is None
        return result

    quick, slow, strict = entry(), entry(), entry(lambda manifest: manifest.facts["abstained"] == 0)
    first = quick.save(table, {"abstained": 1})
    assert slow.save(pa.table({"id": ["b"]}), {"abstained": 0}).manifest.sha256 == first.manifest.sha256
    own = strict.save(pa.table({"id": ["c"]}), {"abstained": 0})
    assert store.read(own.artifact)["id"].to_pylist() == ["c"]


def test_two_concurrent_runs_agree_with_a_nondeterministic_model(
    make_run: MakeRun, fake_model: Callable[..., FakeModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All runs must use the same replies and tables, even if the disk of one run is slow."""
    dice = random.Random(0)

    def rolled(request: Request) -> str:
        numbers = list(range(1, len(request.shown) + 1))
        return json.dumps({"ranking": dice.sample(numbers, top_k(request))})

    fake_model(rolled)
    append = Ledger._append_to

    def slow(self: Ledger, path: Path, lines: bytes) -> None:
        time.sleep(dice.random() * 0.02)
        append(self, path, lines)

    monkeypatch.setattr(Ledger, "_append_to", slow)
    run = make_run(rows=140, budget=12, queries={"size": 5})
    with ThreadPoolExecutor(2) as threads:
        first, second = [future.result() for future in [threads.submit(select, run) for _ in range(2)]]
    assert first.table().equals(second.table())
    assert first.summary["artifacts"] == second.summary["artifacts"]
    again = select(run.model_copy(update={"refresh": ("rankings", "tournament", "selection")}))
    assert again.summary["ranking"]["asked"] == 0
    assert again.table().equals(first.table()), "a later reader of the replies gets the same rows"


def test_two_concurrent_runs_neither_corrupt_nor_block_each_other(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.02, parallel=8) as server:
        asking = {"hosts": [server.host], "concurrency": 4}
        run = make_run(rows=300, budget=25, selector=f"ollama:{server.model}", ranking=asking, queries={"size": 5})
        with ThreadPoolExecutor(2) as threads:
            both = [future.result() for future in [threads.submit(select, run) for _ in range(2)]]
        asked = len(server.asked)
        third = select(run)
        apart = select(run.model_copy(update={"store": run.store + " apart"}))
        alone = len(server.asked) - asked
    assert third.summary["ranking"]["asked"] == 0
    assert set(third.summary["cached"]) == set(third.summary["seconds"]), "the files of both runs are complete"
    assert all(result.table().equals(apart.table()) for result in (*both, third))
    assert asked <= 2 * alone, "no run sends more requests than it would alone"
