"""An export writes over nothing, is there whole or not at all, and carries every text."""

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest

from selectllm import pool, select
from selectllm.cli.main import main
from selectllm.errors import StoreError, UsageError
from selectllm.export.export import export_selection
from selectllm.export.names import Target
from selectllm.export.options import ExportOptions
from selectllm.report.result import Result
from selectllm.store.runs import list_runs
from tests import hostile
from tests.conftest import write_pool
from tests.export.reading import MakeRun, chosen_from

pytestmark = pytest.mark.usefixtures("quick_embedding")
Cli = Callable[..., tuple[int, str, str]]

TARGETS = get_args(Target)
each_target = pytest.mark.parametrize("to", TARGETS)


def options_for(to: str) -> ExportOptions:
    return ExportOptions(model="gpt-x" if to == "openai-batch" else None)


@pytest.fixture
def result(make_run: MakeRun) -> Result:
    return select(make_run(strategy="random"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run a command line in this process with this test's store; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--store", str(tmp_path / "store")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


# What is there stays


@each_target
def test_the_same_export_can_be_run_again_and_changes_nothing(to: Any, result: Result, tmp_path: Path) -> None:
    first = export_selection(result.store, to, tmp_path / "out", options=options_for(to))
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in first.files}
    assert export_selection(result.store, to, tmp_path / "out", options=options_for(to)) == first
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in first.files} == before


@each_target
def test_a_file_with_other_content_is_never_written_over(to: Any, result: Result, tmp_path: Path) -> None:
    first = export_selection(result.store, to, tmp_path / "out", options=options_for(to))
    for file in first.files:
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"a", b"b", 1))  # as an annotator's answer in a file that came from us
        changed = file.read_bytes()
        with pytest.raises(UsageError, match="is there already, with other content, and nothing is written over"):
            export_selection(result.store, to, tmp_path / "out", options=options_for(to))
        assert file.read_bytes() == changed
        file.write_bytes(whole)


@each_target
def test_an_export_that_was_stopped_goes_on(to: Any, result: Result, tmp_path: Path) -> None:
    first = export_selection(result.store, to, tmp_path / "out", options=options_for(to))
    first.files[-1].unlink()
    assert export_selection(result.store, to, tmp_path / "out", options=options_for(to)) == first
    assert all(file.is_file() for file in first.files)


def test_inputs_and_foreign_files_stay(result: Result, tmp_path: Path) -> None:
    given = write_pool(tmp_path / "mine.jsonl", 20)
    (tmp_path / "link.jsonl").symlink_to(given)
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    content = given.read_bytes()
    for name in ("mine.jsonl", "link.jsonl", "dangling.jsonl", "folder"):
        with pytest.raises(UsageError, match="nothing is written over"):
            export_selection(result.store, "jsonl", tmp_path / name)
    assert given.read_bytes() == content
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(UsageError, match=r"mine\.jsonl' is a file"):
        export_selection(result.store, "hf", given)
    with pytest.raises(UsageError, match="nothing is written over"):
        export_selection(result.store, "jsonl", "/dev/null")


def test_the_store_is_no_place_for_exports(result: Result, tmp_path: Path) -> None:
    runs = list_runs(result.store)
    (tmp_path / "link").symlink_to(tmp_path / "store")
    for place in ("store/v1/runs/20990101.json", "link/v1/runs/20990101.json"):
        with pytest.raises(UsageError, match="is in the store"):
            export_selection(result.store, "jsonl", tmp_path / place)
    assert list_runs(result.store) == runs


def test_a_full_disk_leaves_no_part_of_a_file(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreError, match="cannot be written: No space left on device"):
        export_selection(result.store, "csv", tmp_path / "new" / "chosen.csv")
    assert list((tmp_path / "new").iterdir()) == []


def test_any_name_of_a_file_will_do(result: Result, tmp_path: Path) -> None:
    foreign = tmp_path / ".a.0123abcd.tmp"
    foreign.write_text("mine")
    os.utime(foreign, (0, 0))
    for name in ("[a]", "**", "odd ** name?.csv", "ünï.csv"):
        export_selection(result.store, "csv", tmp_path / name)
        assert (tmp_path / name).is_file()
    assert foreign.read_text() == "mine"


def test_places_that_cannot_be_written_are_named(result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file' is a file"):
        export_selection(result.store, "csv", tmp_path / "file" / "chosen.csv")
    with pytest.raises(UsageError, match="is a URL"):
        export_selection(result.store, "csv", "s3://bucket/chosen.csv")


# Every text


@pytest.fixture
def everything(make_run: MakeRun, tmp_path: Path) -> Result:
    """A run that chose all hostile rows, with hostile texts in carried columns as well."""
    rows: list[dict[str, Any]] = [
        {**row, "note": "\ud800 lone", "more": ["\udfff", {"k": row["instruction"][:50]}], "</script>": "\x00"}
        for row in hostile.rows()
    ]
    path = tmp_path / "hostile.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    kept = pool.partition(pool.parse(pool.fetch(str(path)), pool.Columns()), {}).table.num_rows
    return select(make_run(pool=str(path), budget=kept, strategy="random"))


@each_target
def test_hostile_texts_survive(to: Any, everything: Result, tmp_path: Path) -> None:
    files = export_selection(everything.store, to, tmp_path / "out", options=options_for(to)).files
    table = everything.table()
    ids, texts = table["id"].to_pylist(), table["instruction"].to_pylist()
    content = files[0].read_bytes()
    match to:
        case "label-studio":
            data = [task["data"] for task in json.loads(content)]
            assert [(row["row_id"], row["instruction"]) for row in data] == [
                (id, text.replace("\0", "␀")) for id, text in zip(ids, texts, strict=True)
            ]
            assert {row["note"] for row in data} == {"\\ud800 lone"}
            json.dumps(data, ensure_ascii=False).encode()  # fails where a surrogate is left
        case "argilla":
            records = json.loads(files[1].read_bytes())
            assert [record["id"] for record in records] == ids
            for record, text in zip(records, texts, strict=True):
                assert text.replace("\0", "␀") in record["fields"]["prompt"]
            json.dumps(records, ensure_ascii=False).encode()
        case "jsonl":
            rows = list(map(json.loads, content.decode().splitlines()))
            assert [(row["id"], row["instruction"]) for row in rows] == list(zip(ids, texts, strict=True))
        case "openai-batch":
            rows = list(map(json.loads, content.decode().splitlines()))
            assert [row["custom_id"] for row in rows] == ids
            assert all(text in row["body"]["messages"][-1]["content"] for row, text in zip(rows, texts, strict=True))
        case "parquet" | "hf":
            assert pq.read_table(files[0]).equals(table.drop_columns("output"))
        case "csv":
            with files[0].open(encoding="utf-8-sig", newline="") as file:
                read = list(csv.DictReader(file))
            assert [row["id"] for row in read] == ids
            for row, text in zip(read, texts, strict=True):
                assert row["instruction"] in (text, f"'{text}")


def test_a_csv_of_hostile_texts_names_its_rows_to_us_again(everything: Result, tmp_path: Path) -> None:
    export_selection(everything.store, "csv", tmp_path / "raw.csv", options=ExportOptions(raw=True))
    named = pool.named_ids(str(tmp_path / "raw.csv"), pool.Columns())
    assert named >= set(everything.table()["id"].to_pylist())


@pytest.mark.slow
def test_twenty_thousand_rows_are_written_in_seconds(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [{"instruction": f"Task {n}: " + "word " * 40, "input": "text " * 40, "tag": n} for n in range(20_000)]
    result = chosen_from(rows, make_run, tmp_path)
    for to in TARGETS:
        start = time.process_time()
        export_selection(result.store, to, tmp_path / to, options=options_for(to))
        seconds = time.process_time() - start
        assert seconds < 10, to


# The command


def test_the_command_says_what_it_wrote(cli: Cli, result: Result, tmp_path: Path) -> None:
    code, out, err = cli("export", tmp_path / "out", "--to", "label-studio")
    assert (code, err) == (0, "")
    assert out == (
        f"Wrote 5 rows of run {list_runs(result.store)[0]}: "
        f"{tmp_path / 'out' / 'tasks.json'}, {tmp_path / 'out' / 'interface.xml'}\n"
    )
    code, out, _ = cli("export", tmp_path / "out.csv", "--to", "csv", "--json")
    assert json.loads(out) == {
        "target": "csv", "run": list_runs(result.store)[0], "rows": 5, "files": [str(tmp_path / "out.csv")],
    }  # fmt: skip


def test_the_command_exports_any_run(cli: Cli, make_run: MakeRun, tmp_path: Path) -> None:
    first = select(make_run(budget=4, strategy="random"))
    (run,) = list_runs(first.store)
    select(make_run(budget=6, strategy="random"))
    assert cli("export", tmp_path / "first.jsonl", "--to", "jsonl", "--run", run)[0] == 0
    assert cli("export", tmp_path / "latest.jsonl", "--to", "jsonl")[0] == 0
    assert cli("export", run, "--to", "jsonl", tmp_path / "named.jsonl")[0] == 0
    assert cli("export", "--to", "jsonl", run, tmp_path / "same.jsonl", "--run", run)[0] == 0
    counts = {path.stem: len(path.read_text().splitlines()) for path in tmp_path.glob("[!p]*.jsonl")}
    assert counts == {"first": 4, "latest": 6, "named": 4, "same": 4}
    code, _, err = cli("export", run, "--to", "jsonl")
    assert (code, f"{run} names a run: name the path" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chosen.csv"], "--to"),
        (["chosen.csv", "--to", "excel"], "label-studio"),
        (["chosen.csv", "--to", "csv", "--run", "nothing"], "has no run nothing"),
        (["chosen.jsonl", "--to", "openai-batch"], "needs --model"),
        (["some-run", "--to", "csv", "chosen.csv", "--run", "other"], "two runs are named, some-run and --run other"),
    ],
)
def test_bad_usage_has_exit_code_2(arguments: list[str], message: str, cli: Cli, result: Result) -> None:
    code, out, err = cli("export", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_store_without_runs_says_what_to_do(cli: Cli) -> None:
    code, _, err = cli("export", "chosen.csv", "--to", "csv")
    assert code == 2
    assert "has no run yet. Choose rows first, with `selectllm select`" in err


def test_a_damaged_selection_has_exit_code_1(cli: Cli, result: Result, tmp_path: Path) -> None:
    Path(result.path()).write_bytes(b"damaged")
    code, _, err = cli("export", tmp_path / "chosen.csv", "--to", "csv")
    assert code == 1
    assert "is missing or damaged: run again" in err
    assert not (tmp_path / "chosen.csv").exists()
