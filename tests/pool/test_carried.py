"""The file's further columns: their types in Parquet, and their values in selection.jsonl."""

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selectllm.cli import main as cli
from selectllm.pool.carried import is_json, original_values
from selectllm.report.output import json_lines
from tests.pool.reading import read_pool


def carried(write, values):
    """The table of a pool with these extra values, after writing it to Parquet and reading it back."""
    path = write("pool.jsonl", [{"instruction": f"i{number}", "x": value} for number, value in enumerate(values)])
    file = pa.BufferOutputStream()
    pq.write_table(read_pool(path).table, file)
    return pq.read_table(pa.BufferReader(file.getvalue()))


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1, None, 2**40], pa.int64()),
        ([1, 0.5], pa.float64()),
        ([0.5, float("nan")], pa.float64()),
        ([True, None], pa.bool_()),
        (["007", ""], pa.string()),
        (["qa", float("nan")], pa.string()),
        ([None, None], pa.null()),
    ],
)
def test_values_of_one_plain_type_keep_their_type_and_nan_is_null(write, values, type_):
    table = carried(write, values)
    expected = [None if value != value else value for value in values]
    assert (table["x"].type, table["x"].to_pylist()) == (type_, expected)
    assert not is_json(table.schema.field("x"))


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, "é", None], ["1", '"é"', None]),
        ([{"a": 1}, {"b": "é"}, None], ['{"a": 1}', '{"b": "é"}', None]),
        ([["a"], []], ['["a"]', "[]"]),
        ([True, 1], ["true", "1"]),
        ([2**70], [str(2**70)]),
        ([2**60 + 1, 0.5], [str(2**60 + 1), "0.5"]),
        (["\ud800", 1], ['"\\ud800"', "1"]),
        ([{"a": float("nan"), "b": [float("inf")]}], ['{"a": null, "b": [null]}']),
    ],
)
def test_other_values_are_json_texts_and_the_column_is_marked(write, values, texts):
    table = carried(write, values)
    assert (table["x"].type, table["x"].to_pylist()) == (pa.string(), texts)
    assert is_json(table.schema.field("x"))


@pytest.mark.parametrize(
    "values",
    [
        [{"city": "Oslo"}, {"a": 1, "b": 2}, None, {}],
        [[{"name": "add", "arguments": {"a": {"type": "string"}}}], [], [{"name": "now"}]],
        ["1", "1a", 2, None, 2.5, True],
        ['{"a": 1}', "plain"],
        ['{"a": 1}', {"a": 1}],
        [2**64, 1],
        [["\ud800"], {"\udfff": 1}],
    ],
)
def test_values_come_out_of_the_selection_as_they_went_in(write, values):
    table = carried(write, values)
    assert original_values(table.schema.field("x"), table["x"]) == values
    rows = map(json.loads, json_lines(table).splitlines())
    assert [row["x"] for row in rows] == values


def test_a_deep_or_wide_value_is_a_json_text(write):
    deep = ["a"]
    for _ in range(40):
        deep = [deep]
    wide = {f"key {number}": 1 for number in range(2000)}
    assert carried(write, [deep, wide])["x"].to_pylist() == [json.dumps(deep), json.dumps(wide)]


def test_objects_have_one_type_whatever_rows_came(write):
    """Files of two nights can be read together."""
    nights = [[{"a": 1}], [{"b": ["x"]}, None], [[]]]
    assert {carried(write, values)["x"].type for values in nights} == {pa.string()}


def test_lone_surrogates_of_a_text_are_escaped_and_the_row_is_kept(write):
    assert carried(write, ["a\ud800", None])["x"].to_pylist() == ["a\\ud800", None]


def test_a_column_that_clashes_keeps_its_prefixed_name_wherever_it_stands(write):
    table = read_pool(write("pool.jsonl", [{"source_id": "other", "id": "own", "instruction": "a"}])).table
    assert table.column_names[5:] == ["source_source_id", "source_id"]
    assert [table[name][0].as_py() for name in table.column_names[5:]] == ["other", "own"]


def test_reserved_column_names_are_prefixed_until_they_are_unique(write):
    row = {"id": 1, "instruction": "a", "row": 2, "source_id": 3, "vector": 4, "topic": 5, "\ud800": 6, "": 7}
    table = read_pool(write("pool.jsonl", [row])).table
    assert table.column_names[5:] == [
        "source_id",
        "source_row",
        "source_source_id",
        "source_vector",
        "topic",
        "\\ud800",
        "",
    ]
    assert [table[name][0].as_py() for name in table.column_names[5:]] == [1, 2, 3, 4, 5, 6, 7]


def test_columns_stand_in_first_seen_order_and_all_rows_decide_their_type(write):
    rows = [{"b": "x", "instruction": ""}, {"a": 1, "instruction": "i"}, {"instruction": "j", "b": 2}]
    table = read_pool(write("pool.jsonl", rows)).table
    assert table.column_names[5:] == ["b", "a"]
    assert (table["b"].to_pylist(), table["a"].to_pylist()) == ([None, "2"], [1, None])


def test_a_value_that_cannot_be_written_as_json_ends_a_run_before_its_first_question(
    write, tmp_path, monkeypatch, capsys
):
    def json_text(value):
        raise TypeError(f"{type(value).__name__} has no form")

    day = pa.array([datetime.date(2026, 1, 1)])
    names = [
        write("dates.parquet", pa.table({"instruction": ["a"], "day": day})),
        write("plain.parquet", pa.table({"instruction": ["a"], "number": [1]})),
    ]
    monkeypatch.setattr("selectllm.pool.carried.json_text", json_text)
    codes = []
    for name in names:
        store = tmp_path / Path(name).stem
        codes.append(cli.main(["plan", name, "--budget", "1", "--store", str(store), "--no-validate"]))
        command = ["select", name, "--budget", "1", "--selector", "scripted:longest", "--store", str(store)]
        codes.append(cli.main([*command, "--no-validate", "--strategy", "longest"]))
    assert codes == [2, 2, 0, 0]
    error = "the column 'day', of type date32[day], cannot be written as JSON: date has no form"
    assert capsys.readouterr().err.count(error) == 2
