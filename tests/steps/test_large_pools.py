"""Pools that are divided block by block, whose vectors are never all in memory; here from 100 rows on."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm import blocks, queries, select
from selectllm.embedding.block_file import BlockFile
from selectllm.embedding.ordered_vectors import IdLookup, OrderedVectors, as_bytes
from selectllm.embedding.vector_cache import table_of, tables_of
from selectllm.errors import StoreError
from selectllm.queries import EMPTY
from selectllm.schemas import embeddings
from selectllm.settings import Composition, QuerySettings, RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.divide import StoredVectors, divide
from selectllm.store import Store
from tests.conftest import HashEmbedder
from tests.steps.test_incremental import grow, new_rows
from tests.steps.test_queries import distances, unit_vectors

MakeRun = Callable[..., RunSettings]

COMPOSITIONS = get_args(Composition)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WHOLE_ROWS", 100)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 60)


def stored(folder: Path, vectors: np.ndarray) -> StoredVectors:
    """Vectors as an artifact, which is read anew."""
    store, ids = Store(str(folder)), pa.array([f"{row:032x}" for row in range(len(vectors))], pa.string())
    entry = CacheEntry(store, "embeddings", 1, {}, {})
    entry.save(table_of(ids, vectors), {"dimension": vectors.shape[1]})
    return StoredVectors(store, loaded(entry))


def loaded(entry: CacheEntry) -> StepResult:
    result = entry.load()
    assert result is not None
    return result


@given(rows=st.integers(1, 3_000_000), size=st.integers(2, 200))
@settings(max_examples=30, deadline=None)
def test_blocks_give_as_many_queries_as_the_whole_and_as_large(rows: int, size: int) -> None:
    sizes = blocks.block_sizes(rows, size)
    assert sum(sizes) == rows
    assert max(sizes) <= blocks.WHOLE_ROWS
    assert sum(-(-held // size) for held in sizes) == -(-rows // size)
    for composition in COMPOSITIONS:
        by_blocks = [held for block in sizes for held in queries.sizes(block, size, composition)]
        assert sorted(by_blocks) == sorted(queries.sizes(rows, size, composition))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize(("rows", "size"), [(100, 7), (101, 7), (391, 7), (391, 5)])
def test_every_row_of_a_large_pool_has_exactly_one_place(
    composition: Composition, rows: int, size: int, tmp_path: Path
) -> None:
    vectors, options = unit_vectors(rows), QuerySettings(size=size, composition=composition)
    kept = stored(tmp_path, vectors)
    centroids = queries.fit_centroids(vectors, size, 0)
    divided = divide(kept, options, 3, centroids)
    assert sorted(divided[divided != EMPTY]) == list(range(rows))
    assert sorted((divided != EMPTY).sum(axis=1)) == sorted(queries.sizes(rows, size, composition))
    assert (divide(kept, options, 3, centroids) == divided).all()
    if rows > 100 or composition != "paper":
        assert (divide(kept, options, 4, centroids) != divided).any()
    if rows == 100:
        assert (divided == queries.build_queries(vectors, size, composition, 3, centroids)).all()


@pytest.mark.usefixtures("small_blocks")
def test_queries_by_blocks_are_nearly_as_diverse_or_as_alike_as_those_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 12))[rng.integers(9, size=1200)] + 0.3 * rng.normal(size=(1200, 12))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    kept, centroids = stored(tmp_path, vectors), queries.fit_centroids(vectors, 6, 0)
    for composition in ("matched", "similar"):
        by_blocks = distances(vectors, divide(kept, QuerySettings(size=6, composition=composition), 0, centroids))
        whole = distances(vectors, queries.build_queries(vectors, 6, composition, 0, centroids))
        random = distances(vectors, queries.build_queries(vectors, 6, "random"))
        assert abs(by_blocks.mean() - whole.mean()) < 0.2 * abs(whole.mean() - random.mean())


def test_a_sample_is_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(20_000)
    kept = stored(tmp_path, vectors)
    rows = np.array([0, 8191, 8192, 19_999])
    assert (kept.take(rows) == vectors[rows]).all()
    monkeypatch.setattr(blocks, "WHOLE_ROWS", 100)
    assert (kept.take(rows) == vectors[rows]).all()
    some = StoredVectors(kept._store, kept._embeddings, rows)
    assert (some.whole() == vectors[rows]).all()
    assert [len(kept), len(some), len(kept.ids), kept.ids.num_chunks] == [20_000, 4, 20_000, 1]


@pytest.mark.usefixtures("quick_embedding", "small_blocks")
def test_a_run_by_blocks_chooses_rows_and_has_the_vectors_and_the_verdict_of_the_whole(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = make_run(rows=391, budget=20, quality={})
    by_blocks = select(run)
    monkeypatch.setattr(blocks, "WHOLE_ROWS", 1000)
    whole = select(run.model_copy(update={"store": str(tmp_path / "whole")}))
    assert by_blocks.table("embeddings").equals(whole.table("embeddings"))
    assert by_blocks.summary["validation"] == whole.summary["validation"]
    assert by_blocks.summary["artifacts"]["embeddings"] == whole.summary["artifacts"]["embeddings"]
    assert by_blocks.summary["artifacts"]["queries"] != whole.summary["artifacts"]["queries"]
    counts = [np.bincount(result.table("queries")["query_id"].to_numpy()) for result in (by_blocks, whole)]
    assert sorted(counts[0]) == sorted(counts[1])


@pytest.mark.usefixtures("quick_embedding", "small_blocks")
def test_a_large_pool_that_grew_keeps_its_queries(make_run: MakeRun, quick_embedding: type[HashEmbedder]) -> None:
    run = make_run(rows=391, budget=20)
    old = select(run).table("queries")
    embedded = quick_embedding.texts
    grown = select(grow(run, new_rows(150)))
    assert quick_embedding.texts - embedded == 150
    assert grown.table("queries").slice(0, len(old)).equals(old)
    assert len(grown.table("queries")) == 541


@pytest.mark.usefixtures("quick_embedding")
def test_a_pool_that_grew_large_keeps_its_queries(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(rows=280, budget=20)
    old = select(run).table("queries")
    monkeypatch.setattr(blocks, "WHOLE_ROWS", 290)
    assert select(grow(run, new_rows(50))).table("queries").slice(0, len(old)).equals(old)


@pytest.mark.usefixtures("quick_embedding")
def test_a_large_pool_that_was_divided_as_a_whole_keeps_its_queries(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(rows=280, budget=20)
    before = select(run)
    queries, path = before.table("queries"), Path(before.path("queries"))
    monkeypatch.setattr(blocks, "WHOLE_ROWS", 100)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 60)
    assert select(run).path("queries") == str(path)
    embeddings = before._artifact("embeddings")
    for lose in (lambda: before.store.remove(embeddings), path.unlink):  # which are then made again
        lose()
        again = select(run)
        assert again.path("queries") == str(path)
        assert again.table("queries").equals(queries)
    path.write_bytes(b"damaged")
    assert select(grow(run, new_rows(50))).table("queries").slice(0, len(queries)).equals(queries)


@pytest.mark.usefixtures("small_blocks")
def test_a_file_of_vectors_that_was_altered_ends_the_run(tmp_path: Path) -> None:
    kept = stored(tmp_path, unit_vectors(20_000, dimension=16))
    path = Path(kept._store.path(kept._embeddings.artifact))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="run again"):
        next(iter(kept))


def test_vectors_come_back_in_the_order_of_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.embedding.ordered_vectors.BLOCK_ROWS", 7)
    vectors, order = unit_vectors(20), np.random.default_rng(0).permutation(20)
    with OrderedVectors(str(tmp_path), 20) as kept:
        assert [kept.dimension, list(kept)] == [0, []]
        kept.add(order[:9], vectors[order[:9]])
        assert sorted(np.flatnonzero(kept.known)) == sorted(order[:9])
        kept.add(order[5:], np.vstack([-vectors[order[5:9]], vectors[order[9:]]]))  # of two the earlier counts
        assert (np.concatenate(list(kept)) == vectors).all()
        assert kept.known.all()
        assert list(tmp_path.iterdir()) == []  # the file has no name


def test_a_file_of_blocks_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be kept for a while in"):
        BlockFile(str(tmp_path / "none"), [3], 2)


def test_ids_are_found_at_their_first_place() -> None:
    lookup = IdLookup(as_bytes(pa.chunked_array([["b", "a"], ["ä", "b", "c"]])))
    found = lookup.find(np.array([text.encode() for text in ("b", "ä", "x", "a")]))
    assert found.tolist() == [0, 2, -1, 1]
    assert list(lookup.repeats()) == [(0, 3)]
    assert IdLookup(as_bytes(pa.chunked_array([], pa.string()))).find(np.array([b"a"])).tolist() == [-1]


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_table_in_parts_is_the_one_that_is_written_whole(place: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path) if place == "local" else f"memory://{tmp_path}")
    ids, vectors = pa.chunked_array([[f"{row:032x}" for row in range(50)]]), unit_vectors(50)
    entry = CacheEntry(store, "embeddings", 1, {}, {})
    schema = embeddings(vectors.shape[1])
    with pytest.raises(ZeroDivisionError):  # as itself: it is no fault of the disk
        entry.save_stream(schema, (1 / 0 for _ in "x"), {})
    assert store.list("artifacts/embeddings") == []
    entry.save_stream(schema, tables_of(ids, (vectors[start : start + 20] for start in range(0, 50, 20))), {"n": 1})
    result = loaded(entry)
    assert result.table(store).equals(table_of(ids.combine_chunks(), vectors))
    assert (result.manifest.rows, result.facts) == (50, {"n": 1})
    assert [name.startswith(".") for name in map(str, store.list("artifacts/embeddings"))] == [False, False]
