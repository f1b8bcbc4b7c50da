import hashlib
import json
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from selectllm.errors import StoreError, UsageError
from selectllm.store import Artifact, Manifest, Origin, Store
from selectllm.store.files import write_atomically

TABLE = pa.table({"id": ["a", "b"], "n": [1, 2]})
TARGET = Artifact(kind="things", key="0" * 32)


def content_key(kind: str, code_version: int, made_from: dict[str, str], settings: dict[str, object]) -> str:
    return Origin(code_version=code_version, made_from=made_from, inputs={}, settings=settings).content_key(kind)


def write(store: Store) -> Manifest:
    origin = Origin(code_version=1, made_from={"pool": "x"}, inputs={}, settings={"size": 3})
    return store.write(TARGET, TABLE, origin, {"rows": 2})


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "a store"))
    fsspec.filesystem("memory").store.clear()
    return Store("memory://store")


def test_a_written_artifact_is_intact_and_can_be_read(store: Store) -> None:
    assert not store.is_intact(TARGET)
    manifest = write(store)
    assert store.is_intact(TARGET)
    assert store.read(TARGET).equals(TABLE)
    assert store.manifest(TARGET) == manifest
    assert (manifest.rows, manifest.made_from, manifest.settings) == (2, {"pool": "x"}, {"size": 3})
    assert "pyarrow" in manifest.versions


def test_artifact_paths_are_stable(store: Store) -> None:
    write(store)
    with fsspec.open(store.path(TARGET)) as file:
        assert hashlib.sha256(file.read()).hexdigest() == store.manifest(TARGET).sha256  # type: ignore[union-attr]
    assert store.path(TARGET).endswith(f"/v1/artifacts/things/{TARGET.key}.parquet")


@pytest.mark.parametrize("damage", ["delete", "truncate", "alter", "no manifest", "torn manifest", "foreign manifest"])
def test_damage_is_detected(damage: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write(store)
    parquet = Path(store.path(TARGET))
    manifest = parquet.with_suffix(".json")
    if damage == "delete":
        parquet.unlink()
    elif damage == "truncate":
        parquet.write_bytes(parquet.read_bytes()[:-10])
    elif damage == "alter":
        content = bytearray(parquet.read_bytes())
        content[20] ^= 1
        parquet.write_bytes(content)
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "torn manifest":
        manifest.write_bytes(manifest.read_bytes()[:50])
    else:
        manifest.write_text("[1]")
    assert not store.is_intact(TARGET)
    write(store)
    assert store.is_intact(TARGET)


def test_an_error_for_a_missing_artifact_says_what_to_do(store: Store) -> None:
    with pytest.raises(StoreError, match="run again"):
        store.read(TARGET)


def test_keys_depend_only_on_content() -> None:
    key = content_key("kind", 1, {"a": "x", "b": "y"}, {"size": 3})
    assert key == content_key("kind", 1, {"b": "y", "a": "x"}, {"size": 3})
    others = [("other", 1, {"a": "x"}, {}), ("kind", 2, {"a": "x"}, {}), ("kind", 1, {"a": "y"}, {})]
    assert len({key, *(content_key(*parts) for parts in others)}) == 4
    assert len(key) == 32


def test_a_key_never_changes() -> None:
    # Other programs store these keys. If one changes, every artifact of every store is computed again.
    assert content_key("pool", 1, {"file": "ab"}, {"format": ".jsonl"}) == "802da242bfe20fa54f2fcf7767a7dd38"


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_store_without_write_permission_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "v1").write_text("a file, where a folder must be")
    with pytest.raises(StoreError, match="cannot be"):
        write(Store(str(tmp_path)))


def test_a_store_that_is_a_file_is_bad_usage(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, not a folder")
    with pytest.raises(UsageError, match="is a file: name a folder"):
        Store(str(tmp_path / "store"))


def test_an_unknown_protocol_is_bad_usage() -> None:
    with pytest.raises(UsageError, match="nosuch"):
        Store("nosuch://bucket/folder")


def test_nothing_stored_is_a_pickle(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write(store)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".parquet", ".json"}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.read_bytes()[:4] == b"PAR1"


LARGE = pa.table({"id": [f"{row:032x}" for row in range(100)]})


@pytest.fixture
def stamped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Manifest, Path]:
    """A store with an artifact that counts as large, its manifest and its file."""
    monkeypatch.setattr("selectllm.store.store.STAMPED_BYTES", 100)
    store = Store(str(tmp_path))
    origin = Origin(code_version=1, made_from={}, inputs={}, settings={})
    manifest = store.write(TARGET, LARGE, origin, {})
    assert store.manifest(TARGET) == manifest
    return store, manifest, Path(store.path(TARGET))


def test_a_large_file_that_nobody_has_written_to_is_not_hashed(
    stamped: tuple[Store, Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest, _ = stamped
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it is hashed"))
    assert store.integrity_error(manifest) is None


def test_a_large_file_that_was_altered_is_found_out_and_one_put_back_is_hashed(
    stamped: tuple[Store, Manifest, Path],
) -> None:
    store, manifest, path = stamped
    content = path.read_bytes()
    status = path.stat()
    path.write_bytes(content[:-1] + b"\0")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # the clock of files may not have moved on yet
    assert store.integrity_error(manifest) == "was altered since it was written"
    path.write_bytes(content)
    assert store.integrity_error(manifest) is None
    assert store.read(TARGET, verified=manifest).equals(LARGE)


def test_what_a_disk_has_done_to_a_large_file_shows_when_it_is_read_and_it_is_made_again(
    stamped: tuple[Store, Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest, path = stamped
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    monkeypatch.setattr(store, "_stamp", lambda *_: manifest.stamp)
    assert store.integrity_error(manifest) is None
    with pytest.raises(StoreError, match="damaged: run again"):
        store.read(TARGET, verified=manifest)
    assert store.manifest(TARGET) is None
    store.write(TARGET, LARGE, Origin(code_version=1, made_from={}, inputs={}, settings={}), {"made": "anew"})
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(StoreError, match="damaged: run again"):
        store.read(TARGET, verified=manifest)  # as a run does that found it before another made it anew
    assert store.manifest(TARGET) is not None


def test_a_large_artifact_that_was_copied_to_an_object_store_is_intact_there(
    stamped: tuple[Store, Manifest, Path],
) -> None:
    local, manifest, path = stamped
    fsspec.filesystem("memory").store.clear()
    store = Store("memory://copied")
    for file in (path, path.with_suffix(".json")):
        store.write_bytes(f"artifacts/things/{file.name}", file.read_bytes())
    assert store.integrity_error(manifest) is None
    assert store.read(TARGET).equals(local.read(TARGET))
    store.write_bytes(f"artifacts/things/{path.name}", path.read_bytes()[:-1] + b"\0")
    assert store.integrity_error(manifest) == "was altered since it was written"
