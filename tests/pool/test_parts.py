"""Large files, read in parts: whatever the size of a part, the pool is the same."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from selectllm import pool, quality
from selectllm.errors import ContractError, PoolError, StoreError
from selectllm.pool import Columns, Pool
from selectllm.pool.parts import PartedColumn, Parts, Spill
from tests.pool.conftest import WRITERS

PLAIN = [
    {"instruction": f"Name {number % 7} rivers.", "input": "of Asia" if number % 3 else None, "mark": number * 0.5}
    for number in range(20)
]
HOSTILE = [
    {"instruction": "Say hello.", "tags": ["a"], "number": 1},
    {"instruction": "Say \u2028 goodbye.", "number": 2.5, "id": "own"},
    {"instruction": "Say hello.", "number": 10**30},
    {"instruction": 7, "number": None},
    {"instruction": "Say it \ud800 broken.", "number": 3},
    {"instruction": "Sing.", "input": "  ", "late": {"b": 1, "a": [True, None]}},
    {"instruction": "Sing.", "output": "La la la.", "late": "text"},
    {"messages": [{"role": "user", "content": "Count the stars."}], "number": float("nan")},
    {"instruction": "?", "late": "\ud800"},
    {"instruction": "Sing.", "input": "louder"},
]
LINES = "\n".join([json.dumps(HOSTILE[0]), "nonsense", "", *map(json.dumps, HOSTILE[1:]), "[1]", '"x"'])


def _patch(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("selectllm.pool") and hasattr(module, "PART_ROWS"):
            monkeypatch.setattr(module, "PART_ROWS", rows)


def _read(location: str) -> tuple[Pool, quality.PoolCheck]:
    parsed = pool.parse(pool.fetch(location), Columns())
    check = quality.check_pool(parsed)
    return pool.partition(parsed, check.reasons), check


def _told(location: str) -> list[object]:
    """All that a file's reading tells."""
    found, check = _read(location)
    counts = (found.rows_read, found.quarantined, found.duplicates, found.layout, found.refused)
    findings = [result.finding for table in check.tables for result in table.check()]
    return [found.table.to_pylist(), found.quarantine.to_pylist(), found.table.schema, counts, check.reasons, findings]


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_parts_of_any_size_give_the_same_pool(write, monkeypatch, suffix, rows):
    location = write(f"pool{suffix}", PLAIN)
    whole = _told(location)
    _patch(monkeypatch, rows)
    assert len(pool.parse(pool.fetch(location), Columns()).parts) > 1
    assert _told(location) == whole


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_hostile_rows_in_parts_are_the_same(write, monkeypatch, rows):
    location = write("pool.jsonl", LINES)
    whole = _told(location)
    _patch(monkeypatch, rows)
    in_parts = _told(location)
    assert in_parts == whole
    table = _read(location)[0].table
    assert table.schema.field("late").metadata == {b"selectllm": b"json"}
    assert {"number", "tags", "source_id", "late", "messages"} <= set(table.column_names)


@pytest.mark.parametrize("rows", [1, 4])
def test_several_files_in_parts_are_the_same(write, monkeypatch, tmp_path, rows):
    write("a.jsonl", LINES)
    write("b.jsonl", PLAIN)
    write("c.jsonl", HOSTILE[2:4])
    whole = _told(str(tmp_path))
    _patch(monkeypatch, rows)
    assert _told(str(tmp_path)) == whole


def test_the_rows_of_many_small_files_are_put_aside(write, monkeypatch, tmp_path):
    for number in range(4):
        write(f"{number}.jsonl", PLAIN[5 * number : 5 * number + 5])
    _patch(monkeypatch, 7)
    column = pool.parse(pool.fetch(str(tmp_path)), Columns()).records.columns["mark"]
    assert isinstance(column, PartedColumn)
    assert (list(column), column._parts._held) == ([row["mark"] for row in PLAIN], [])


def test_left_out_rows_of_a_table_are_shown_as_they_stand(write, monkeypatch):
    table = pa.table({"instruction": ["a", "", "a", "b", "", "b", ""], "n": range(7)})
    location = write("pool.parquet", table)
    _patch(monkeypatch, 3)
    texts = pool.partition(pool.parse(pool.fetch(location), Columns()), {}).quarantine["text"].to_pylist()
    assert [json.loads(text)["n"] for text in texts] == [1, 2, 4, 5, 6]


def test_a_column_of_texts_in_several_chunks_is_carried(write, monkeypatch):
    location = write("pool.jsonl", PLAIN[:4])
    arrays = pa.array
    monkeypatch.setattr(
        "selectllm.pool.carried.pa.array",  # beyond 2 GiB, Arrow makes several arrays of one list
        lambda values, type_=None: (
            pa.chunked_array([values[:1], values[1:]], type_) if type_ == pa.float64() else arrays(values, type_)
        ),
    )
    assert _read(location)[0].table["mark"].to_pylist() == [0.0, 0.5, 1.0, 1.5]


def test_a_column_that_parquet_cannot_hold_is_refused(write):
    both = pa.UnionArray.from_dense(
        pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["x"])]
    )
    table, sink = pa.table({"instruction": ["Sing.", "Dance."], "both": both}), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    with pytest.raises(PoolError, match=r"the column 'both', .*cannot be written as Parquet: .*Leave it out"):
        _read(write("pool.arrow", bytes(sink.getvalue())))


def test_a_file_of_bad_rows_alone_is_refused_in_parts(write, monkeypatch):
    location = write("pool.jsonl", [{"instruction": ""}] * 5)
    whole = _told(location)
    _patch(monkeypatch, 2)
    assert _told(location) == whole
    assert _read(location)[0].refused.startswith("has no usable row")


def test_a_column_that_json_cannot_hold_is_refused_in_parts(write, monkeypatch):
    days = pa.array([None, None, 1], pa.date32())
    location = write("pool.parquet", pa.table({"instruction": ["Sing.", "Dance.", "Laugh."], "day": days}))
    _patch(monkeypatch, 1)
    assert len(_read(location)[0].table) == 3

    def refuse(value):
        if value is not None:
            raise TypeError("dates have no form")

    monkeypatch.setattr("selectllm.pool.carried.json_text", refuse)
    with pytest.raises(PoolError, match=r"the column .day., of type date32.day., cannot be written as JSON"):
        _read(location)


def test_parts_lie_in_a_file_without_a_name(write, monkeypatch, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    location = write("pool.jsonl", PLAIN)
    _patch(monkeypatch, 2)
    parsed = pool.parse(pool.fetch(location), Columns(), str(scratch))
    assert len(parsed.parts) > 2
    assert list(scratch.iterdir()) == []


def test_no_room_for_parts_is_told(write, monkeypatch, tmp_path):
    location = write("pool.jsonl", PLAIN)
    _patch(monkeypatch, 2)
    with pytest.raises(StoreError, match=r"cannot be kept for a while in .*nowhere.*Free space"):
        pool.parse(pool.fetch(location), Columns(), str(tmp_path / "nowhere"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Path("/dev/full").open("r+b", buffering=0))  # noqa: SIM115
    with pytest.raises(StoreError, match="No space left"):
        Spill().put("x")


def test_one_part_stays_in_memory_and_several_come_back(monkeypatch):
    opened = []
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: opened.append(1))
    parts: Parts[list[int]] = Parts(Spill())
    parts.append([1, 2])
    assert (list(parts), opened) == ([[1, 2]], [])
    monkeypatch.undo()
    parts.append([3])
    assert (list(parts), list(parts), parts[0], len(parts)) == ([[1, 2], [3]], [[1, 2], [3]], [1, 2], 2)


def test_values_of_a_column_are_found_by_their_place(monkeypatch):
    _patch(monkeypatch, 2)
    column = PartedColumn.of(["a", None, {"b": "\ud800"}, 10**30, 1.5], Spill())
    assert list(column) == ["a", None, {"b": "\ud800"}, 10**30, 1.5]
    assert [column[place] for place in (4, 0, 2, 3)] == [1.5, "a", {"b": "\ud800"}, 10**30]
    assert column[1:4] == [None, {"b": "\ud800"}, 10**30]
    with pytest.raises(IndexError):
        column[5]


def test_an_id_in_two_parts_is_a_defect(write):
    table = _read(write("pool.jsonl", PLAIN))[0].table
    assert list(quality.check_pool_parts([table.slice(0, 3), table.slice(3)])) == [table.slice(0, 3), table.slice(3)]
    with pytest.raises(ContractError, match=r"ids stand twice \(1 of 2, ids " + table["id"][2].as_py()):
        list(quality.check_pool_parts([table.slice(0, 3), table.slice(2)]))


def test_a_part_without_a_column_is_a_defect(write):
    table = _read(write("pool.jsonl", PLAIN))[0].table
    with pytest.raises(ContractError, match="columns are missing"):
        list(quality.check_pool_parts([table, table.drop_columns("output")]))


def test_one_column_in_two_roles_is_refused(write, monkeypatch):
    location = write("pool.jsonl", PLAIN)
    _patch(monkeypatch, 2)
    with pytest.raises(PoolError, match="cannot be two of"):
        pool.parse(pool.fetch(location), Columns(instruction="instruction", input="instruction"))
