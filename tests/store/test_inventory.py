import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from selectllm import select
from selectllm.cli.format_store import age, format_inventory, size
from selectllm.cli.main import main
from selectllm.settings import RunSettings
from selectllm.store import Store
from selectllm.store.inventory import scan

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")


@pytest.fixture
def store(make_run: MakeRun) -> Store:
    """A store after two runs that differ in their budgets."""
    run = make_run(budget=7)
    select(run)
    select(make_run(budget=8))
    return Store(run.store)


def test_artifacts_are_listed_by_step_and_newest_first(store: Store) -> None:
    inventory = scan(store)
    kinds = [item.artifact.kind for item in inventory.artifacts]
    assert list(dict.fromkeys(kinds))[:2] == ["pool", "quarantine"]
    assert kinds[-4:] == ["tournament", "preferences", "selection", "selection"]
    assert [item.manifest and item.manifest.rows for item in inventory.artifacts[-2:]] == [8, 7]
    assert not [item for item in inventory.artifacts if item.damage]
    assert inventory.bytes == sum(
        path.stat().st_size for path in Path(store.root, "v1").rglob("*/*/*") if path.is_file()
    )


def test_replies_are_counted_by_model_and_the_model_is_named(store: Store) -> None:
    (replies,) = scan(store).replies
    assert replies.name == "scripted:longest"
    assert replies.files == len(store.list(f"replies/{replies.model}")) > 0
    store.write_bytes("vectors/some-model/1.parquet", b"123")
    vectors = {files.model: (files.files, files.bytes, files.name) for files in scan(store).vectors}
    assert vectors["some-model"] == (1, 3, None)


DAMAGE = {
    "delete table": "table missing",
    "cut table": "table of another size",
    "delete manifest": "no manifest",
    "tear manifest": "manifest unreadable",
    "another's manifest": "manifest unreadable",
    "no time in the manifest": "manifest unreadable",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_visible_from_names_and_sizes_is_marked(damage: str, store: Store) -> None:
    inventory = scan(store)
    target, other = inventory.artifacts[-1].artifact, inventory.artifacts[-2].artifact
    table = Path(store.path(target))
    manifest = table.with_suffix(".json")
    if damage == "delete table":
        table.unlink()
    elif damage == "cut table":
        table.write_bytes(table.read_bytes()[:-1])
    elif damage == "delete manifest":
        manifest.unlink()
    elif damage == "tear manifest":
        manifest.write_bytes(manifest.read_bytes()[:50])
    elif damage == "no time in the manifest":
        fields = json.loads(manifest.read_bytes())
        manifest.write_text(json.dumps(fields | {"created": "yesterday"}), encoding="utf-8")
    else:
        manifest.write_bytes(Path(store.path(other)).with_suffix(".json").read_bytes())
    after = {item.artifact: item.damage for item in scan(store).artifacts}
    assert after == {item.artifact: DAMAGE[damage] if item.artifact == target else None for item in inventory.artifacts}
    assert f"DAMAGED: {DAMAGE[damage]}" in format_inventory(scan(store))
    assert "; 1 damaged" in format_inventory(scan(store))


def test_the_command_prints_a_plain_table_or_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["artifacts", "--store", store.location]) == 0
    text = capsys.readouterr()
    assert main(["artifacts", "--json", "--store", store.location]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == scan(store).record()
    assert text.err == ""
    assert "\x1b" not in text.out
    newest = record["artifacts"][-2]
    assert newest["kind"] == "selection"
    (line,) = [line for line in text.out.splitlines() if newest["key"][:12] in line]
    assert f"pool {newest['made_from']['pool'][:12]}" in line
    assert f"{len(record['artifacts'])} artifacts" in text.out


def test_a_missing_store_is_empty_and_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["artifacts", "--store", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == "0 artifacts, 0 B\n"
    assert not (tmp_path / "none").exists()


def test_a_store_that_is_a_file_prints_one_line_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["artifacts", "--store", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_object_stores_can_be_listed(make_run: MakeRun) -> None:
    fsspec.filesystem("memory").store.clear()
    select(make_run(budget=7, store="memory://inventory"))
    inventory = scan(Store("memory://inventory"))
    assert {item.artifact.kind for item in inventory.artifacts} > {"pool", "rankings", "selection"}
    assert not [item for item in inventory.artifacts if item.damage]
    assert inventory.replies[0].bytes > 0
    fsspec.filesystem("memory").store.clear()


def test_foreign_file_names_are_sanitized_for_terminals(store: Store) -> None:
    store.write_bytes("artifacts/\x1b[31mred/\x1b]0;title\x07.parquet", b"")
    store.write_bytes("replies/\x1b[31m/x.jsonl", b"")
    text = format_inventory(scan(store))
    assert all(line.isprintable() for line in text.splitlines())


def test_files_that_are_not_artifacts_are_ignored(store: Store) -> None:
    before = scan(store)
    store.write_bytes("artifacts/pool/README.txt", b"notes")
    store.write_bytes("artifacts/pool/.hidden.json", b"notes")
    assert scan(store) == before


@pytest.mark.parametrize(
    ("bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_400, "99.4 kB"), (99_500, "100 kB"), (999_600, "1.0 MB")],
)
def test_sizes_are_printed_in_short_form(bytes: int, text: str) -> None:
    assert size(bytes) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=59.9), "59 min"),
        (timedelta(hours=23.9), "23 h"),
        (timedelta(days=1999.9), "1,999 d"),
    ],
)
def test_ages_are_printed_in_short_form(ago: timedelta, text: str) -> None:
    now = datetime.now(UTC)
    assert age(now - ago, now) == text


def test_an_artifact_of_unknown_age_is_marked() -> None:
    assert age(None, datetime.now(UTC)) == "?"


def test_a_manifest_missing_from_a_bulk_read_is_read_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # An object store may leave out one of many files in a bulk read. A file that was not read is not damaged.
    monkeypatch.setattr(Store, "manifests", lambda *_: [])
    assert not [item for item in scan(store).artifacts if item.damage]
    assert scan(store).artifacts[-1].manifest == store.manifest(scan(store).artifacts[-1].artifact)
