"""Tables read in parts, and a few columns at a time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from selectllm.errors import StoreError
from selectllm.store import Artifact, Origin, Store
from selectllm.store.tables import BATCH_ROWS

ROWS = 2 * BATCH_ROWS + 5
ORIGIN = Origin(code_version=1, made_from={}, inputs={}, settings={})
ARTIFACT = Artifact(kind="things", key="0" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    store.write(ARTIFACT, pa.table({"a": range(ROWS), "b": ["text"] * ROWS, "c": [1.5] * ROWS}), ORIGIN, {})
    return store


def test_a_scan_gives_the_wanted_columns_in_parts(store: Store) -> None:
    batches = list(store.scan(ARTIFACT, ["c", "a"]))
    assert [len(batch) for batch in batches] == [BATCH_ROWS, BATCH_ROWS, 5]
    assert {*batches[0].schema.names} == {"a", "c"}
    assert [value for batch in batches for value in batch["a"].to_pylist()] == list(range(ROWS))
    assert store.schema(ARTIFACT).names == ["a", "b", "c"]


@pytest.mark.parametrize("is_local", [True, False])
def test_a_table_is_mapped_as_it_is_read(store: Store, tmp_path: Path, is_local: bool) -> None:
    field = pa.field("text", pa.string(), metadata={b"selectllm": b"json"})
    table = pa.table([pa.array([None, "\U0001f600", ""] * 50_000)], schema=pa.schema([field]))
    if not is_local:
        store = Store(f"memory://{tmp_path}")
    store.write(ARTIFACT, table, ORIGIN, {})
    folder = Path(store.path(ARTIFACT)).parent if is_local else tmp_path
    before = sorted(folder.iterdir())
    mapped = store.map(ARTIFACT)
    assert mapped.equals(table, check_metadata=True)
    assert sorted(folder.iterdir()) == before
    assert mapped.filter(pc.equal(mapped["text"], "")).num_rows == 50_000


def test_a_table_with_several_lists_of_categories_is_mapped(store: Store) -> None:
    parts = [pa.table({"topic": pa.array(names).dictionary_encode()}) for names in (["a", "b"] * 40_000, ["x"] * 9)]
    with store.stage(ARTIFACT, parts[0].schema, parts) as staged:
        store.put(ARTIFACT, staged, ORIGIN, {})
    assert store.map(ARTIFACT)["topic"].to_pylist() == ["a", "b"] * 40_000 + ["x"] * 9


def test_a_damaged_table_is_not_mapped(store: Store) -> None:
    path = Path(store.path(ARTIFACT))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="missing or damaged"):
        store.map(ARTIFACT)


def test_no_room_to_map_a_table_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.store.store.temporary_path", lambda path: path.parent / "nowhere" / path.name)
    with pytest.raises(StoreError, match=r"cannot be written: .*No such file or directory"):
        store.map(ARTIFACT)


def test_a_scan_of_what_is_no_table_fails_clearly(store: Store) -> None:
    path = Path(store.path(ARTIFACT))
    path.write_bytes(b"nothing")
    with pytest.raises(StoreError, match="cannot be read"):
        list(store.scan(ARTIFACT, ["a"]))
    with pytest.raises(StoreError, match="cannot be read"):
        store.schema(ARTIFACT)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(store.scan(ARTIFACT, ["a"]))


def test_lines_are_read_one_after_the_other(store: Store) -> None:
    store.write_bytes("replies/m/one.jsonl", b"first\nsecond\ntorn")
    assert list(store.lines("replies/m/one.jsonl")) == [b"first\n", b"second\n", b"torn"]
    assert list(store.lines("replies/m/one.jsonl", 6)) == [b"second\n", b"torn"]


def test_a_part_of_a_file_is_read(store: Store) -> None:
    store.write_bytes("replies/m/one.jsonl", b"first\nsecond\ntorn")
    assert store.read_bytes("replies/m/one.jsonl", 6) == b"second\ntorn"
    assert store.read_bytes("replies/m/one.jsonl", 6, 7) == b"second\n"
    assert store.read_bytes("replies/m/one.jsonl", 0, 5) == b"first"
    with pytest.raises(FileNotFoundError):
        store.read_bytes("replies/m/none.jsonl", 6, 7)
