"""Artifacts of many files: a folder of Parquet parts, some of which an earlier artifact has had."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest

from selectllm.errors import StoreError
from selectllm.store import Artifact, Manifest, Origin, Store
from selectllm.store.inventory import scan
from selectllm.store.pruning import prune
from selectllm.store.store import NewPart
from selectllm.store.table_files import EarlierPart

TARGET = Artifact(kind="things", key="0" * 32)
LATER = Artifact(kind="things", key="1" * 32)
ORIGIN = Origin(code_version=1, made_from={}, inputs={}, settings={})
TABLE = pa.table({"id": [f"{row:03}" for row in range(60)], "n": list(range(60))})
SIZES = (30, 1, 29)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "a store") if request.param == "local" else f"memory://{tmp_path}")


@pytest.fixture
def stamped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Manifest]:
    """An artifact whose parts are all so large that they have a stamp."""
    monkeypatch.setattr("selectllm.store.store.STAMPED_BYTES", 100)
    store = Store(str(tmp_path))
    return store, write(store, new_parts())


def new_parts(table: pa.Table = TABLE) -> Iterator[NewPart]:
    start = 0
    for size in SIZES:
        part = table.slice(start, size)
        yield NewPart(f"key of {part['id'][0]}", part, {"size": str(size)})
        start += size


def write(store: Store, parts: Iterable[NewPart | EarlierPart], artifact: Artifact = TARGET) -> Manifest:
    with store.stage_parts(artifact, TABLE.schema, parts) as staged:
        return store.put(artifact, staged, ORIGIN, {})


def files(store: Store, artifact: Artifact = TARGET) -> list[str]:
    return store.list(f"artifacts/things/{artifact.key}.parquet")


def alter(store: Store, name: str) -> None:
    content = store.read_bytes(name)
    store.write_bytes(name, content[:30] + bytes([content[30] ^ 1]) + content[31:])


def test_parts_are_one_table(store: Store) -> None:
    manifest = write(store, new_parts())
    assert store.is_intact(TARGET)
    assert store.manifest(TARGET) == manifest
    assert (manifest.rows, len(manifest.parts), manifest.stamp) == (60, 3, None)
    assert manifest.bytes == sum(part.bytes for part in manifest.parts)
    assert store.read(TARGET).equals(TABLE)
    assert store.read(TARGET, verified=manifest).equals(TABLE)
    assert store.map(TARGET).equals(TABLE)
    assert store.schema(TARGET).equals(TABLE.schema)
    assert pa.Table.from_batches(store.scan(TARGET, ["n"])).equals(TABLE.select(["n"]))
    assert [store.notes(TARGET, part)["size"] for part in manifest.parts] == ["30", "1", "29"]
    store.require(manifest)


def test_each_part_is_a_file_of_its_own_and_the_digest_is_that_of_all(store: Store) -> None:
    manifest = write(store, new_parts())
    assert [name.rsplit("/", 1)[-1] for name in files(store)] == [part.name for part in manifest.parts]
    digests = [hashlib.sha256(store.read_bytes(name)).hexdigest() for name in files(store)]
    assert digests == [part.sha256 for part in manifest.parts]
    assert manifest.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_other_programs_read_the_folder_as_one_table(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write(store, new_parts())
    assert pd.read_parquet(store.path(TARGET))["n"].tolist() == list(range(60))
    table = pa.dataset.dataset(store.path(TARGET)).to_table()
    assert table["n"].to_pylist() == list(range(60))
    assert duckdb.sql(f"SELECT sum(n), count(*) FROM '{store.path(TARGET)}/*.parquet'").fetchall() == [(1770, 60)]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("damage", ["gone", "altered", "longer"])
def test_damage_to_any_part_is_detected_and_the_artifact_is_made_again(store: Store, number: int, damage: str) -> None:
    manifest = write(store, new_parts())
    name = files(store)[number]
    if damage == "gone":
        store.remove_file(name)
    elif damage == "altered":
        alter(store, name)
    else:
        store.write_bytes(name, store.read_bytes(name) + b"\0")
    error = {"gone": "is gone", "altered": "was altered since it was written"}.get(damage, "was cut short or added to")
    assert (store.integrity_error(manifest) or "").startswith(error)
    with pytest.raises(StoreError, match="missing or damaged: run again"):
        store.read(TARGET)
    write(store, new_parts())
    assert store.read(TARGET).equals(TABLE)


def test_a_part_that_is_taken_over_is_not_written_again(store: Store) -> None:
    first = write(store, new_parts())
    old = [EarlierPart(first, part) for part in first.parts]
    changed = NewPart("other", TABLE.slice(30, 1), {})
    second = write(store, [old[0], changed, old[2]], LATER)
    assert store.read(LATER).equals(TABLE)
    assert [part.key for part in second.parts] == [first.parts[0].key, "other", first.parts[2].key]
    assert [one.sha256 == other.sha256 for one, other in zip(first.parts, second.parts, strict=True)] == [
        True,
        False,
        True,
    ]
    assert store.notes(LATER, second.parts[2]) == store.notes(TARGET, first.parts[2])
    assert store.is_intact(TARGET), "its parts have a second name now"
    store.remove(TARGET)
    assert not files(store)
    assert store.is_intact(LATER)
    assert store.read(LATER).equals(TABLE)


def test_a_part_that_is_taken_over_takes_no_further_place_on_a_disk_that_gives_files_two_names(
    stamped: tuple[Store, Manifest],
) -> None:
    store, first = stamped
    write(store, [EarlierPart(first, part) for part in first.parts], LATER)
    for one, other in zip(files(store), files(store, LATER), strict=True):
        assert os.path.samefile(store.address(one), store.address(other))


def test_a_part_is_copied_where_a_file_has_one_name_alone(
    stamped: tuple[Store, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    store, first = stamped
    monkeypatch.setattr(os, "link", refuse)
    write(store, [EarlierPart(first, part) for part in first.parts], LATER)
    assert store.read(LATER).equals(TABLE)
    assert not os.path.samefile(store.address(files(store)[0]), store.address(files(store, LATER)[0]))


def test_large_parts_are_known_by_their_stamps_also_once_they_were_taken_over(
    stamped: tuple[Store, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, first = stamped
    second = write(store, [EarlierPart(first, part) for part in first.parts], LATER)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed"))
    assert store.integrity_error(first) is None
    assert store.integrity_error(second) is None


def test_a_folder_takes_the_place_of_a_file_and_a_file_that_of_a_folder(store: Store) -> None:
    store.write(TARGET, TABLE, ORIGIN, {})
    assert store.is_local is False or Path(store.path(TARGET)).is_file()
    write(store, new_parts())
    assert store.read(TARGET).equals(TABLE)
    if store.is_local:
        store.write(TARGET, TABLE, ORIGIN, {})
        assert Path(store.path(TARGET)).is_file()
        assert store.read(TARGET).equals(TABLE)


def test_a_process_that_is_killed_while_it_writes_parts_leaves_nothing_that_counts(
    stamped: tuple[Store, Manifest], tmp_path: Path
) -> None:
    """Before each file, or folder, that is made, linked, made durable or renamed."""
    killed = 0
    while True:
        store = Store(str(tmp_path / str(killed)))
        first = write(store, new_parts())
        parts = [EarlierPart(first, first.parts[0]), *list(new_parts())[1:]]
        child = os.fork()
        if not child:
            die_before(killed + 1)
            write(store, parts, LATER)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert store.read(TARGET).equals(TABLE)
        if store.is_intact(LATER):  # only its entry in the folder was not durable yet
            assert store.read(LATER).equals(TABLE)
        write(store, parts, LATER)
        assert store.read(LATER).equals(TABLE)
        assert len(scan(store).artifacts) == 2
        if not status:
            break
        assert os.waitstatus_to_exitcode(status) == 9
        killed += 1
    assert killed >= 10


def die_before(moment: int) -> None:
    """End this process, with nothing tidied up, before its call number `moment` to the system."""
    calls = 0

    def counted(name: str) -> None:
        whole = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == moment:
                os._exit(9)
            return whole(*arguments, **options)

        setattr(os, name, call)

    for name in ("link", "fsync", "replace", "rename", "mkdir"):
        counted(name)


def test_artifacts_of_parts_are_listed_with_the_size_of_all_and_pruned(store: Store) -> None:
    manifest = write(store, new_parts())
    (info,) = scan(store).artifacts
    assert info.damage is None
    assert info.bytes > manifest.bytes
    store.remove_file(files(store)[1])
    assert scan(store).artifacts[0].damage == "table of another size"
    pruned = prune(store, 0, now=datetime.now(UTC) + timedelta(days=2))
    assert len(pruned.removed) == 1
    assert not files(store)
    assert scan(store).artifacts == ()


def test_parts_without_a_manifest_are_listed_and_pruned(store: Store) -> None:
    """As a run leaves them that is killed while it puts them on an object store."""
    write(store, new_parts())
    store.remove_file(f"artifacts/things/{TARGET.key}.json")
    (info,) = scan(store).artifacts
    assert info.damage == "no manifest"
    assert info.created is not None
    assert info.bytes == sum(len(store.read_bytes(name)) for name in files(store))
    with pytest.raises(StoreError, match="missing or damaged: run again"):
        next(store.scan(TARGET, ["n"]))
    assert not prune(store, 0).removed, "it is young"
    assert len(prune(store, 0, now=datetime.now(UTC) + timedelta(days=2)).removed) == 1
    assert scan(store).artifacts == ()


def test_a_store_whose_name_has_brackets_loses_no_other_stores_parts(tmp_path: Path) -> None:
    for root in (str(tmp_path), f"memory://{tmp_path}"):
        one, other = Store(f"{root}/store1"), Store(f"{root}/store[12]")
        for store in (one, other):
            write(store, new_parts())
        other.remove(TARGET)
        assert not files(other)
        assert one.read(TARGET).equals(TABLE)


def test_a_table_of_fewer_parts_leaves_none_of_the_earlier_ones(store: Store) -> None:
    write(store, new_parts())
    write(store, [NewPart("all", TABLE, {})])
    assert len(files(store)) == 1
    assert store.read(TARGET).equals(TABLE)


def test_two_runs_that_put_the_same_parts_at_once_leave_both_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an object store, where a lease can run out while parts are put."""
    store, other = (Store(f"memory://{tmp_path}") for _ in range(2))
    put, calls = store.files.put_file, 0

    def other_comes_between(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            write(other, new_parts())
        put(*arguments, **options)

    monkeypatch.setattr(store.files, "put_file", other_comes_between)
    manifest = write(store, new_parts())
    assert calls > 3
    assert store.integrity_error(manifest) is None
    assert store.read(TARGET).equals(TABLE)


def test_two_removals_at_once_both_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    write(store, new_parts())
    rename = Path.rename
    removed = 0

    def other_was_faster(path: Path, target: Path) -> Any:
        nonlocal removed
        removed += 1
        if removed == 1:
            Store(str(tmp_path)).remove(TARGET)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", other_was_faster)
    store.remove(TARGET)
    assert removed == 2
    assert not files(store)
    assert write(store, new_parts()) == store.manifest(TARGET)


def test_a_file_that_was_made_anew_meanwhile_is_not_taken_for_the_one_that_was_hashed(
    stamped: tuple[Store, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, first = stamped
    part, link = first.parts[0], os.link
    path = Path(store.address(files(store)[0]))

    def changed_before(source: str, target: Path) -> None:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:-1] + b"\0")
        link(source, target)

    monkeypatch.setattr(os, "link", changed_before)
    with pytest.raises(StoreError, match="damaged: run again"):
        write(store, [EarlierPart(first, part), *list(new_parts())[1:]], LATER)
    assert store.manifest(LATER) is None


@pytest.mark.parametrize("fault", ["altered", "unreadable"])
def test_a_large_part_is_sound_only_if_all_of_it_is_read_and_as_it_was(
    fault: str, stamped: tuple[Store, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest = stamped
    earlier = EarlierPart(manifest, manifest.parts[0])
    assert store.is_sound(earlier)
    path = Path(store.address(files(store)[0]))
    if fault == "altered":
        status, content = path.stat(), path.read_bytes()
        with path.open("r+b") as file:
            file.write(content[:30] + bytes([content[30] ^ 1]) + content[31:])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        monkeypatch.setattr(hashlib, "file_digest", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    assert store.integrity_error(manifest) is None
    assert not store.is_sound(earlier)
    if fault == "altered":
        assert store.manifest(TARGET) is None, "else the next run would trust the stamp again"
    with pytest.raises(StoreError, match=r"damaged: run again|cannot be read: Input/output error"):
        store.require(manifest)


def test_a_folder_that_a_dead_writer_left_is_removed_when_it_is_stale(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write(store, new_parts())
    left = Path(store.path(TARGET)).with_name(f".{LATER.key}.parquet.0123abcd.tmp")
    left.mkdir()
    (left / "part-000000.parquet").write_bytes(b"PAR1")
    store.remove_stale_temp_files()
    assert left.exists(), "its writer may be at work"
    os.utime(left, (1, 1))
    store.remove_stale_temp_files()
    assert not left.exists()
    assert store.is_intact(TARGET)
