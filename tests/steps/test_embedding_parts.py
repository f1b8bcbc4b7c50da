"""Embeddings of many files: a pool that has changed a little takes over the files of those rows that it shares."""

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selectllm import RunSettings, select
from selectllm.embedding import parts
from selectllm.embedding.parts import cut, in_pieces
from selectllm.errors import StoreError
from selectllm.report.result import Result
from selectllm.steps.context import Context
from selectllm.steps.embed import embed
from selectllm.steps.read_pool import read_pool
from selectllm.store import Store
from tests.conftest import HashEmbedder

MakeRun = Callable[..., RunSettings]

ROWS = [{"instruction": f"Question {number}: what is {number} squared?"} for number in range(400)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 20 rows on parts of some 16 rows, and of 60 at most."""
    monkeypatch.setattr("selectllm.steps.embed.ONE_FILE_ROWS", 20)
    monkeypatch.setattr(parts, "_END", b"0")
    monkeypatch.setattr(parts, "MOST_ROWS", 60)


@pytest.fixture
def embeddings(tmp_path: Path, quick_embedding: type[HashEmbedder]) -> Callable[..., Any]:
    """Embeds rows in a store; gives the context, the pool's result and that of the embeddings."""

    def embedded(rows: list[dict[str, Any]], store: str = "store") -> tuple[Context, Any, Any]:
        path = tmp_path / "pool.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settings = RunSettings(pool=str(path), budget=1, store=str(tmp_path / store))
        context = Context(settings, Store(settings.store))
        pool = read_pool(context)
        return context, pool, embed(context, pool)

    return embedded


def vectors(context: Context, result: Any) -> dict[str, bytes]:
    table = context.store.read(result.artifact)
    return dict(zip(table["id"].to_pylist(), map(bytes, map(np.float32, table["vector"].to_pylist())), strict=True))


def ids(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"{rng.getrandbits(128):032x}" for _ in range(count)]


def keys(names: list[str], folder: Path) -> list[tuple[int, int, str]]:
    found = cut(Store(str(folder)), pa.chunked_array([names[:7], names[7:]], pa.string()), "model")
    return [(each.start, each.rows, each.key) for each in found.cuts]


@given(seed=st.integers(0, 1000), count=st.integers(1, 300), most=st.integers(1, 70))
def test_parts_hold_every_row_once_in_order_and_end_where_ids_say(seed: int, count: int, most: int) -> None:
    names = ids(count, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "MOST_ROWS", most)
        patch.setattr(parts, "_END", b"0")
        found = keys(names, Path("/nowhere"))
    assert [start for start, _, _ in found] == list(np.cumsum([0, *(rows for _, rows, _ in found)])[:-1])
    assert sum(rows for _, rows, _ in found) == count
    for start, rows, _ in found:
        assert 0 < rows <= most
        assert not any(name.endswith("0") for name in names[start : start + rows - 1])
        assert names[start + rows - 1].endswith("0") or rows == most or start + rows == count


def test_a_row_that_is_added_changes_one_part_wherever_it_stands(tmp_path: Path) -> None:
    names, (other,) = ids(400), ids(1, seed=1)
    before = [key for _, _, key in keys(names, tmp_path)]
    assert len(before) > 10
    for place in range(0, 401, 13):
        after = [key for _, _, key in keys([*names[:place], other, *names[place:]], tmp_path)]
        assert len(set(before) - set(after)) <= 1
        assert len(set(after) - set(before)) <= 2


def test_parts_of_other_vectors_have_other_keys(tmp_path: Path) -> None:
    column = pa.chunked_array([ids(100)])
    store = Store(str(tmp_path))
    one, other = ({each.key for each in cut(store, column, model).cuts} for model in ("a", "b"))
    assert one.isdisjoint(other)


@given(sizes=st.lists(st.integers(1, 9), max_size=9), seed=st.integers(0, 99))
def test_vectors_in_any_pieces_are_the_same_vectors(sizes: list[int], seed: int) -> None:
    rows, rng = sum(sizes), random.Random(seed)
    whole = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    borders = sorted(rng.sample(range(rows + 1), k=min(3, rows)))
    pieces = list(in_pieces(np.split(whole, borders), sizes))
    assert [len(piece) for piece in pieces] == sizes
    assert not pieces or (np.concatenate(pieces) == whole).all()


@pytest.mark.parametrize("whole", [1000, 100])  # the second: vectors lie in a file meanwhile
def test_parts_hold_what_one_file_holds(
    whole: int, embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*ROWS, {"instruction": "Question 0: what is 0 squared?", "input": " "}]
    monkeypatch.setattr("selectllm.blocks.WHOLE_ROWS", whole)
    context, _, result = embeddings(rows)
    assert len(result.manifest.parts) > 10
    monkeypatch.setattr("selectllm.steps.embed.ONE_FILE_ROWS", 1000)
    monkeypatch.setattr("selectllm.blocks.WHOLE_ROWS", 1000)
    other, _, one = embeddings(rows, store="other")
    assert not one.manifest.parts
    assert context.store.read(result.artifact).equals(other.store.read(one.artifact))
    assert result.facts == one.facts
    assert result.artifact == one.artifact
    frame = pd.read_parquet(context.store.path(result.artifact))
    assert frame["id"].tolist() == other.store.read(one.artifact)["id"].to_pylist()
    assert result.table(context.store).equals(one.table(other.store))


@pytest.mark.parametrize("whole", [1000, 100])
@pytest.mark.parametrize("change", ["behind", "before", "between", "fewer", "other order"])
def test_a_changed_pool_embeds_new_rows_alone_and_takes_over_other_parts(
    whole: int, change: str, embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectllm.blocks.WHOLE_ROWS", whole)
    context, _, first = embeddings(ROWS)
    before, embedded = vectors(context, first), HashEmbedder.texts
    new = [{"instruction": f"A new question, number {number}?"} for number in range(4)]
    changed = {
        "behind": [*ROWS, *new],
        "before": [*new, *ROWS],
        "between": [*ROWS[:200], *new, *ROWS[200:]],
        "fewer": [*ROWS[:200], *ROWS[210:]],
        "other order": [*ROWS[200:], *ROWS[:200]],
    }[change]
    context, pool, second = embeddings(changed)
    added = 4 if change in ("behind", "before", "between") else 0
    assert HashEmbedder.texts - embedded == second.facts["embedded"] == added
    kept = {part.key for part in first.manifest.parts} & {part.key for part in second.manifest.parts}
    assert len(kept) >= len(first.manifest.parts) - 3
    after = vectors(context, second)
    assert list(after) == pool.table(context.store)["id"].to_pylist()
    assert {id: vector for id, vector in after.items() if id in before}.items() <= before.items()
    _, _, alone = embeddings(changed, store="another")
    assert alone.facts == second.facts | {"embedded": len(changed)}
    assert alone.manifest.sha256 == second.manifest.sha256, "however it came about, the same content"


def test_vectors_of_parts_that_are_taken_over_are_not_read(
    embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, first = embeddings(ROWS)
    read = list[str]()
    whole = Store.read_part
    monkeypatch.setattr(Store, "read_part", lambda store, kept: read.append(kept.part.key) or whole(store, kept))
    _, _, second = embeddings([*ROWS, {"instruction": "A new question?"}])
    shared = {part.key for part in first.manifest.parts} & {part.key for part in second.manifest.parts}
    assert len(shared) == len(first.manifest.parts) - 1
    assert shared.isdisjoint(read)
    assert len(read) == 1


def test_equal_vectors_are_counted_across_parts_that_are_taken_over_and_new_ones(
    embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_texts = HashEmbedder.embed

    def same_without_numbers(self: HashEmbedder, texts: list[str]) -> np.ndarray:
        found = embed_texts(self, [text.replace("again ", "") for text in texts])
        found[[row for row, text in enumerate(texts) if "Untold" in text]] = 0
        return found

    monkeypatch.setattr(HashEmbedder, "embed", same_without_numbers)
    rows = [*ROWS, {"instruction": "Untold words"}]
    embeddings(rows)
    more = [{"instruction": f"again {row['instruction']}"} for row in ROWS[:5]]
    _, _, second = embeddings([*rows, *more, {"instruction": "Untold numbers"}])
    assert second.facts["told_apart"] == 5
    assert second.facts["known_words"] == 2


@pytest.mark.parametrize("damage", ["altered", "cut short", "gone"])
def test_a_damaged_part_is_not_taken_over_and_nothing_is_embedded_again(
    damage: str, embeddings: Callable[..., Any]
) -> None:
    context, _, first = embeddings(ROWS)
    before, embedded = vectors(context, first), HashEmbedder.texts
    path = Path(context.store.path(first.artifact), first.manifest.parts[3].name)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            content[:99] + bytes([content[99] ^ 1]) + content[100:] if damage == "altered" else content[:99]
        )
    context, _, second = embeddings([*ROWS, {"instruction": "A new question?"}])
    assert HashEmbedder.texts - embedded == 1
    assert before.items() <= vectors(context, second).items()
    context, _, again = embeddings(ROWS)
    assert not again.cached
    assert vectors(context, again) == before
    assert HashEmbedder.texts - embedded == 1


@pytest.mark.parametrize("number", [3, -1])  # a shared part, and one that the grown pool does not share
def test_a_part_that_the_disk_has_damaged_under_several_names_costs_no_run(
    number: int, embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file shows by its stamp what a failing disk has done to it."""
    monkeypatch.setattr("selectllm.store.store.STAMPED_BYTES", 100)
    rows, generations = list(ROWS), list[Any]()
    for generation in range(4):
        context, _, result = embeddings(rows)
        generations.append(result)
        rows.append({"instruction": f"A new question, number {generation}?"})
    before, embedded = vectors(context, generations[-1]), HashEmbedder.texts
    path = Path(context.store.path(generations[-1].artifact), generations[-1].manifest.parts[number].name)
    assert path.stat().st_nlink == (4 if number == 3 else 1)
    status, content = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert context.store.integrity_error(generations[-1].manifest) is None
    context, _, last = embeddings(rows)
    assert before.items() <= vectors(context, last).items()
    assert len(vectors(context, last)) == len(rows)
    assert HashEmbedder.texts - embedded == 1


def test_a_run_that_another_one_has_overtaken_goes_on_with_the_vectors_of_that_one(
    embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, embed_texts, is_first = Store.stage_parts, HashEmbedder.embed, True

    def other_is_faster(store: Store, *arguments: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            shutil.rmtree(Path(store.scratch or "", "vectors"))
            with monkeypatch.context() as patch:
                patch.setattr(HashEmbedder, "embed", lambda self, texts: -embed_texts(self, texts))
                embeddings(ROWS)
        return stage(store, *arguments)

    monkeypatch.setattr(Store, "stage_parts", other_is_faster)
    context, _, result = embeddings(ROWS)
    assert result.table(context.store).equals(context.store.read(result.artifact))


def test_a_part_that_is_lost_while_it_is_taken_over_fails_the_step_and_the_next_one_goes_on(
    embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, first = embeddings(ROWS)
    rows = [*ROWS, {"instruction": "A new question?"}]
    stage = Store.stage_parts

    def removed_meanwhile(store: Store, *arguments: Any) -> Any:
        Path(store.path(first.artifact), first.manifest.parts[0].name).unlink()
        return stage(store, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "stage_parts", removed_meanwhile)
        with pytest.raises(StoreError, match="run again"):
            embeddings(rows)
    context, _, second = embeddings(rows)
    assert len(vectors(context, second)) == len(rows)


def test_a_run_on_parts_chooses_what_a_run_on_one_file_does(
    make_run: MakeRun, quick_embedding: type[HashEmbedder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def chosen(store: str) -> Result:
        return select(make_run(rows=300, budget=20, store=str(tmp_path / store)))

    in_parts = chosen("parts")
    assert Path(in_parts.path("embeddings")).is_dir()
    monkeypatch.setattr("selectllm.steps.embed.ONE_FILE_ROWS", 1000)
    in_one = chosen("one")
    assert Path(in_one.path("embeddings")).is_file()
    assert in_parts.table().equals(in_one.table())
    again = chosen("parts")
    assert set(again.summary["cached"]) == set(again.summary["seconds"])


def test_embeddings_of_one_file_that_an_earlier_version_wrote_are_still_found(
    embeddings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("selectllm.steps.embed.ONE_FILE_ROWS", 1000)
        context, _, first = embeddings(ROWS)
    path = Path(context.store.path(first.artifact))
    assert path.is_file()
    _, _, again = embeddings(ROWS)
    assert again.cached
    embedded = HashEmbedder.texts
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, "selectllm"):
        context, _, anew = embeddings(ROWS)
    assert "made again" in caplog.text
    assert path.is_dir()
    assert context.store.is_intact(anew.artifact)
    assert HashEmbedder.texts == embedded
