"""Pools of several files, and of standard input."""

import gzip
import io
import json
import sys

import fsspec
import pyarrow as pa
import pytest

from selectllm import plan_run, select
from selectllm.cli import main as cli
from selectllm.errors import PoolError
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.pool import Columns, fetch, parse, partition
from selectllm.settings import RunSettings
from selectllm.store import Store
from tests.pool.reading import read_pool

SUFFIXES = [".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz"]
FILES = [
    [{"instruction": "a", "x": "1"}, {"instruction": "", "x": "2"}],
    [{"instruction": "a", "x": "3"}, {"instruction": "b", "x": "4"}],
]


@pytest.fixture
def folder(write, tmp_path):
    def folder(suffix, files=FILES):
        for number, rows in enumerate(files):
            write(f"part-{number}{suffix}", rows)
        write("_SUCCESS.jsonl", b"")
        return str(tmp_path)

    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("pattern", ["", "/part-*", "/part-[01]*", "/"])
def test_a_folder_and_a_pattern_are_read_as_one_pool(folder, suffix, pattern):
    pool = read_pool(folder(suffix) + pattern)
    first = 2 if suffix == ".csv" else 1
    assert pool.table.select(["instruction", "x", "pool_file", "pool_row"]).to_pylist() == [
        {"instruction": "a", "x": "1", "pool_file": f"part-0{suffix}", "pool_row": first},
        {"instruction": "b", "x": "4", "pool_file": f"part-1{suffix}", "pool_row": first + 1},
    ]
    assert pool.quarantine.select(["reason", "pool_file", "pool_row"]).to_pylist() == [
        {"reason": "the instruction is empty", "pool_file": f"part-0{suffix}", "pool_row": first + 1},
        {"reason": f"duplicate of row {first}", "pool_file": f"part-1{suffix}", "pool_row": first},
    ]
    assert [("2" in text, "3" in text) for text in pool.quarantine["text"].to_pylist()] == [
        (True, False),
        (False, True),
    ]
    assert (pool.rows_read, pool.quarantined, pool.duplicates) == (4, 1, 1)


def test_rows_that_are_no_records_are_counted_in_their_own_file(write, tmp_path):
    write("a.jsonl", '{"instruction": "a"}\nnonsense\n')
    write("b.jsonl", 'nonsense\n{"instruction": "b"}\n')
    pool = read_pool(str(tmp_path))
    assert pool.table["row"].to_pylist() == [1, 4]
    assert pool.quarantine.select(["row", "pool_file", "pool_row"]).to_pylist() == [
        {"row": 2, "pool_file": "a.jsonl", "pool_row": 2},
        {"row": 3, "pool_file": "b.jsonl", "pool_row": 1},
    ]


@pytest.mark.parametrize("pattern", ["", "/*"])
def test_a_folder_within_a_folder_is_no_file_whatever_its_name(pattern, folder, tmp_path):
    location = folder(".jsonl")
    (tmp_path / "older.parquet").mkdir()
    (tmp_path / "part-2.jsonl").symlink_to(tmp_path / "part-1.jsonl")
    assert [part.name for part in fetch(location + pattern).parts] == ["part-0.jsonl", "part-1.jsonl", "part-2.jsonl"]


def test_a_pattern_names_the_files_that_it_leaves_out(folder, write, tmp_path, caplog):
    location = folder(".jsonl")
    for name in ("part-2", "part-3.jsonl.1", "_part-SUCCESS"):
        write(name, b"")
    assert len(fetch(location + "/*part-*").parts) == 2
    assert caplog.messages == [
        f"{location}/*part-* fits files that are not read: part-2, part-3.jsonl.1. Their names do not end in a format, "
        "such as .jsonl"
    ]
    caplog.clear()
    fetch(location)
    assert not caplog.messages, "a folder may hold other files"


def test_empty_files_of_a_folder_are_no_fault(write, tmp_path):
    write("a.jsonl", b"")
    with pytest.raises(PoolError, match="holds only empty files"):
        read_pool(str(tmp_path))
    write("b.jsonl", FILES[0])
    assert read_pool(str(tmp_path)).rows_read == 2


def test_columns_of_arrow_keep_their_type_where_the_files_agree(write, tmp_path):
    write("a.parquet", pa.table({"instruction": ["a"], "n": pa.array([1], pa.int8()), "m": pa.array([1], pa.int8())}))
    write("b.parquet", pa.table({"instruction": ["b"], "m": pa.array(["x"])}))
    table = read_pool(str(tmp_path)).table
    assert (table["n"].type, table["n"].to_pylist()) == (pa.int8(), [1, None])
    assert table["m"].to_pylist() == ["1", '"x"']


def test_the_digest_of_several_files_covers_their_names_and_bytes(folder, write, tmp_path):
    before = fetch(folder(".jsonl")).digest
    assert fetch(str(tmp_path)).digest == before
    write("part-1.jsonl", FILES[0])
    assert fetch(str(tmp_path)).digest != before


def test_a_folder_of_a_remote_file_system_is_read(write):
    memory = fsspec.filesystem("memory")
    for name in "ab":
        memory.pipe(f"/shards/{name}.jsonl", json.dumps({"instruction": name}).encode())
    assert read_pool("memory://shards").table["pool_file"].to_pylist() == ["a.jsonl", "b.jsonl"]
    assert read_pool("memory://shards/*.jsonl").table["instruction"].to_pylist() == ["a", "b"]
    memory.rm("/shards", recursive=True)


@pytest.mark.parametrize(
    "content", [b'{"instruction": "a"}\n', b'\n[{"instruction": "a"}]', b"instruction\na\n", b"instruction;x\na;b\n"]
)
def test_standard_input_is_read_by_its_content(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read_pool("-").table["instruction"].to_pylist() == ["a"]


def test_explain_names_the_file_of_a_row(folder, tmp_path):
    store = str(tmp_path / "store")
    run = RunSettings.model_validate(
        {"pool": f"{folder('.jsonl')}/part-*", "budget": 1, "strategy": "longest", "store": store}
        | {"quality": {"no_validate": True}}
    )
    assert select(run).table()["pool_file"].to_pylist()
    texts = [render_explanation(explain(Store(store), f"row:{row}")).splitlines()[0] for row in (2, 4)]
    assert texts[0] == "Row 2 (part-0.jsonl, row 2) of the pool"
    assert texts[1].startswith("Row 4 (part-1.jsonl, row 2) of the pool, id ")


def test_several_locations_are_one_pool_whatever_their_formats(write, tmp_path):
    (tmp_path / "late").mkdir()
    names = [
        write("rows.jsonl", [{"instruction": "a"}]),
        write("late/rows.jsonl", [{"instruction": "b"}, {"instruction": "a"}]),
        write("rows.csv", "prompt\nc\nNaN\n"),
        write("words.jsonl", [{"instruction": "NaN"}]),  # a word in JSON, where null is the missing value
    ]
    pool = partition(parse(fetch(*names), Columns()), {})
    assert pool.table.select(["instruction", "row", "pool_file", "pool_row"]).to_pylist() == [
        {"instruction": "a", "row": 1, "pool_file": names[0], "pool_row": 1},
        {"instruction": "b", "row": 2, "pool_file": names[1], "pool_row": 1},
        {"instruction": "c", "row": 5, "pool_file": "rows.csv", "pool_row": 2},
        {"instruction": "NaN", "row": 7, "pool_file": "words.jsonl", "pool_row": 1},
    ]
    assert pool.quarantine["reason"].to_pylist() == ["duplicate of row 1", "no instruction"]
    assert fetch(*names).digest != fetch(*names[:2]).digest


def test_the_command_line_takes_several_pools(write, tmp_path, capsys):
    names = [write("a.jsonl", [{"instruction": "a"}]), write("b.csv", "instruction\nbb\n")]
    command = ["select", *names, "--strategy", "longest", "--store", str(tmp_path / "store"), "--no-validate"]
    assert cli.main([*command, "--budget", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["pool"]["kept"] == 2
    settings = json.loads(next((tmp_path / "store").glob("v1/runs/*.json")).read_text())["settings"]
    assert (settings["pool"], settings["more_files"]) == (names[0], names[1:])
    assert cli.main(["plan", *names, "--budget", "3", "--store", str(tmp_path / "store"), "--no-validate"]) == 2
    capsys.readouterr()
    assert cli.main([*command, "--budget", "2", "--out", str(tmp_path / "out")]) == 0
    inside = str(tmp_path / "out" / "selection.jsonl")
    assert cli.main(["select", names[0], inside, *command[3:], "--budget", "2", "--out", str(tmp_path / "out")]) == 2
    assert f"POOL {inside} would be written over by --out" in capsys.readouterr().err


def test_several_pools_without_a_usable_row_are_refused_together(write):
    names = [write("a.jsonl", [{"question": 1}]), write("b.jsonl", [{"instructions": "x"}])]
    settings = RunSettings(pool=names[0], more_files=(names[1],), budget=1)
    with pytest.raises(PoolError, match=r"a\.jsonl and 1 more"):
        plan_run(settings)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_files_whose_columns_differ_in_capitals_are_read_as_each_alone(write, suffix):
    lower = write(f"lower{suffix}", [{"instruction": f"a {n}", "input": "b", "output": "c"} for n in range(20)])
    upper = write(f"upper{suffix}", [{"Instruction": f"d {n}", "Input": "e", "Output": "f"} for n in range(20)])
    alone = [read_pool(path).table for path in (lower, upper)]
    for names in ((0, 1), (1, 0)):
        pool = partition(parse(fetch(*[(lower, upper)[name] for name in names]), Columns()), {})
        assert (pool.table.num_rows, pool.quarantined, pool.duplicates) == (40, 0, 0)
        for column in ("id", "instruction", "input", "output"):
            assert pool.table[column].to_pylist() == [v for name in names for v in alone[name][column].to_pylist()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_without_a_column_that_is_read_is_refused_by_its_name(write, suffix):
    names = [write(f"a{suffix}", [{"instruction": "a"}]), write(f"b{suffix}", [{"text": "b", "output": "c"}])]
    for ordered in (names, names[::-1]):
        with pytest.raises(PoolError, match=rf"^b\{suffix} has none of the columns .* Its columns are text, output\."):
            parse(fetch(*ordered), Columns())
    with pytest.raises(PoolError, match=rf"^a\{suffix} has no column 'text', .* Its columns are instruction\."):
        parse(fetch(*names), Columns(instruction="text"))


def test_a_file_of_inputs_alone_and_a_file_of_faults_are_read_beside_another(write):
    names = [
        write("a.jsonl", [{"instruction": "a", "input": "b"}]),
        write("b.jsonl", [{"input": "c"}]),
        write("c.jsonl", "nonsense\n"),
    ]
    pool = partition(parse(fetch(*names), Columns()), {})
    assert (pool.table["instruction"].to_pylist(), pool.quarantined) == (["a", "c"], 1)


WITHOUT_ROWS = [
    (".parquet", pa.table({"instruction": pa.array([], pa.string()), "x": pa.array([], pa.int8())})),
    (".csv", b"instruction,x\n"),
    (".csv", b"\n"),
    (".jsonl", b"\n"),
    (".jsonl.gz", gzip.compress(b"", mtime=0)),
    (".json", b"[]"),
]


@pytest.mark.parametrize(("suffix", "content"), WITHOUT_ROWS)
@pytest.mark.parametrize("pattern", ["", "/part-*"])
def test_a_file_of_a_folder_without_rows_is_passed_over(write, tmp_path, suffix, content, pattern):
    write(f"part-1{suffix}", content)
    with pytest.raises(PoolError, match="holds only files without rows"):
        read_pool(str(tmp_path) + pattern)
    for number, rows in ((0, FILES[0]), (2, FILES[1])):
        write(f"part-{number}{suffix}", rows)
    pool = read_pool(str(tmp_path) + pattern)
    assert pool.table.select(["instruction", "pool_file"]).to_pylist() == [
        {"instruction": "a", "pool_file": f"part-0{suffix}"},
        {"instruction": "b", "pool_file": f"part-2{suffix}"},
    ]
    assert pool.table.schema.field("x").type == pa.string(), "a file without rows changes no type"
    assert pool.rows_read == 4


def test_a_file_without_rows_that_is_named_is_refused_beside_others(write):
    names = [write("a.jsonl", FILES[0]), write("b.csv", b"instruction,x\n")]
    with pytest.raises(PoolError, match=r"b\.csv has no rows"):
        parse(fetch(*names), Columns())
