import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pool.reading import read_pool


def extra_column(write, values):
    """The column of extra values, after writing it to Parquet and reading it back."""
    path = write("pool.jsonl", [{"instruction": f"i{number}", "x": value} for number, value in enumerate(values)])
    file = pa.BufferOutputStream()
    pq.write_table(read_pool(path).table, file)
    return pq.read_table(pa.BufferReader(file.getvalue()))["x"]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1, None, 2**40], pa.int64()),
        ([1, 0.5], pa.float64()),
        ([True, None], pa.bool_()),
        (["007", ""], pa.string()),
        ([["a"], []], pa.list_(pa.string())),
        ([{"a": 1, "b": None}, None], pa.struct([("a", pa.int64()), ("b", pa.null())])),
        ([None, None], pa.null()),
    ],
)
def test_values_of_one_type_keep_their_type(write, values, type_):
    column = extra_column(write, values)
    assert (column.type, column.to_pylist()) == (type_, values)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, "é", None], ["1", '"é"', None]),
        ([{}, None], ["{}", None]),
        ([[{}]], ["[{}]"]),
        ([{"a": {}}], ['{"a": {}}']),
        ([2**70], [str(2**70)]),
        ([{"a": 1}, [1]], ['{"a": 1}', "[1]"]),
        ([2**60 + 1, 0.5], [str(2**60 + 1), "0.5"]),
        (["\ud800", 1], ['"\\ud800"', "1"]),
    ],
)
def test_values_without_a_parquet_type_become_json(write, values, texts):
    assert extra_column(write, values).to_pylist() == texts


def test_a_deep_or_wide_value_becomes_json(write):
    deep = ["a"]
    for _ in range(40):
        deep = [deep]
    wide = [{f"key {number}-{place}": 1 for place in range(60)} for number in range(2)]
    assert extra_column(write, [deep]).type == pa.string()
    assert extra_column(write, wide).type == pa.string()


def test_lone_surrogates_are_escaped_and_the_row_is_kept(write):
    assert extra_column(write, ["a\ud800", None]).to_pylist() == ["a\\ud800", None]
    assert extra_column(write, [{"\udfff": ["\ud800"]}]).to_pylist() == [{"\\udfff": ["\\ud800"]}]


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


def test_columns_come_from_kept_rows_in_first_seen_order(write):
    rows = [{"b": "x", "instruction": ""}, {"a": 1, "instruction": "i"}, {"instruction": "j", "b": 2}]
    table = read_pool(write("pool.jsonl", rows)).table
    assert table.column_names[5:] == ["b", "a"]
    assert table.schema.field("b").type == pa.int64()
    assert table["a"].to_pylist() == [1, None]
