"""Tables read in parts, and a few columns at a time."""

from pathlib import Path

import pyarrow as pa
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
