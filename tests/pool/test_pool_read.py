import json
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.errors import PoolError
from selectllm.schemas import POOL, QUARANTINE
from tests.pool.reading import read_pool

GOOD = b'{"instruction": "good"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello", "not valid JSON: Expecting value"),
        (b'{"instruction": "a', "not valid JSON: Unterminated string"),
        (b'{"instruction": "a\tb"}', "not valid JSON: Invalid control character"),
        (b'{"instruction": ' + b"1" * 5_000 + b"}", "not valid JSON: a number has too many digits"),
        (b"[" * 100_000, "nested more than 64 levels deep"),
        (b'{"x": ' + b"[" * 64 + b"]" * 64 + b"}", "nested more than 64 levels deep"),
        (b"[1]", "not a JSON object but a list"),
        (b"true", "not a JSON object but a boolean"),
        (b"null", "not a JSON object but null"),
        (b'{"instruction": "\xff"}', "not UTF-8"),
        (b'{"x": 1}', "no instruction"),
        (b'{"instruction": null}', "no instruction"),
        (b'{"instruction": " \\n"}', "the instruction is empty"),
        (b'{"instruction": 42}', "the instruction is not text but a number"),
        (b'{"instruction": "a", "input": ["b"]}', "the input is not text but a list"),
        (b'{"instruction": "a", "input": {"b": 1}}', "the input is not text but an object"),
        (b'{"instruction": "\\ud800"}', "holds a lone surrogate, which UTF-8 cannot hold"),
        (b'{"instruction": "a", "output": "\\udfff"}', "holds a lone surrogate, which UTF-8 cannot hold"),
        (b'{"instruction": " good\\r\\n", "input": " "}', "duplicate of row 1"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason_and_text(write, line, reason):
    pool = read_pool(write("pool.jsonl", GOOD + b"\n" + line + b"\r\n"))
    assert pool.quarantine.to_pylist() == [
        {"row": 2, "reason": reason, "text": line.decode("utf-8", "backslashreplace")}
    ]
    is_duplicate = reason.startswith("duplicate")
    assert (pool.rows_read, pool.quarantined, pool.duplicates) == (2, not is_duplicate, is_duplicate)
    assert pool.table["instruction"].to_pylist() == ["good"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,b,c,d,e", "5 fields where the header has 3"),
        (b"a", "1 field where the header has 3"),
        (b'"a,b,c', "not valid CSV: a quote is not closed"),
        (b'"a"a,b,c', "not valid CSV: ',' expected after '\"'"),
        (b"a\ra,b,c", "not valid CSV: a bare carriage return"),
        (b"\xff,b,c", "not UTF-8"),
        (b",,c", "the instruction is empty"),
        (b"good,,x", "duplicate of row 2"),
    ],
)
def test_a_bad_row_of_csv_is_quarantined_with_its_reason_and_text(write, line, reason):
    pool = read_pool(write("pool.csv", b"instruction,input,output\ngood,,\n" + line + b"\n"))
    assert pool.quarantine.to_pylist() == [
        {"row": 3, "reason": reason, "text": line.decode("utf-8", "backslashreplace")}
    ]


def test_a_bad_record_of_a_json_list_is_shown_as_json(write):
    deep = "[" * 100 + "]" * 100
    pool = read_pool(write("pool.json", f'[{{"instruction": "a"}}, "é", {{"instruction": "\\ud800"}}, {deep}]'))
    assert pool.quarantine.to_pylist() == [
        {"row": 2, "reason": "not a JSON object but text", "text": '"é"'},
        {"row": 3, "reason": "holds a lone surrogate, which UTF-8 cannot hold", "text": '{"instruction": "\\ud800"}'},
        {"row": 4, "reason": "not a JSON object but a list", "text": "nested more than 64 levels deep"},
    ]


def test_bad_rows_and_duplicates_keep_the_order_of_the_file(write):
    path = write("pool.jsonl", b"\n".join([GOOD, GOOD, b"x", GOOD, b"{}", b'{"instruction": "b"}']))
    pool = read_pool(path)
    assert pool.quarantine["row"].to_pylist() == [2, 3, 4, 5]
    assert pool.table["row"].to_pylist() == [1, 6]
    assert (pool.rows_read, pool.quarantined, pool.duplicates) == (6, 2, 2)


def test_texts_are_stored_unchanged_and_compared_in_normal_form(write):
    rows = [
        {"instruction": " cafe\N{COMBINING ACUTE ACCENT}\r\n", "input": " x\r\n"},
        {"instruction": "café", "input": "x"},
        {"instruction": "Café", "input": "x"},
    ]
    pool = read_pool(write("pool.jsonl", rows))
    assert pool.table["instruction"].to_pylist() == [rows[0]["instruction"], "Café"]
    assert pool.table["input"].to_pylist() == [" x\r\n", "x"]
    assert pool.quarantine["reason"].to_pylist() == ["duplicate of row 1"]


@pytest.mark.parametrize(
    ("output", "kept"),
    [("text", "text"), (None, None), (42, "42"), (["é", "\ud800"], '["é", "\\ud800"]'), (False, "false"), (" ", " ")],
)
def test_an_output_that_is_not_text_is_stored_as_json(write, output, kept):
    assert read_pool(write("pool.jsonl", [{"instruction": "a", "output": output}])).table["output"].to_pylist() == [
        kept
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_nan_counts_as_missing_in_every_column_of_texts(write, suffix):
    nan = float("nan")
    rows = [
        {"instruction": "a", "input": nan, "output": nan},
        {"instruction": "a", "input": None, "output": None},
        {"instruction": nan, "input": nan, "output": nan},
    ]
    content = pa.table({name: [row[name] for row in rows] for name in ("input", "output")})
    content = content.append_column("instruction", pa.array(["a", "a", None])) if suffix == ".parquet" else rows
    pool = read_pool(write("pool" + suffix, content))
    assert pool.table.select(POOL.names[2:]).to_pylist() == [{"instruction": "a", "input": None, "output": None}]
    assert pool.quarantine["reason"].to_pylist() == ["duplicate of row 1", "no instruction"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("mark", ["NaN", "nan", "null", "NULL", "\\N", " NaN "])
def test_the_words_for_a_missing_value_are_missing_texts_in_csv(write, suffix, mark):
    rows = [
        {"instruction": "a", "input": mark, "output": mark, "x": mark},
        {"instruction": mark, "input": "", "output": "", "x": ""},
    ]
    pool = read_pool(write("pool" + suffix, rows))
    assert pool.table.select([*POOL.names[2:], "x"]).to_pylist() == [
        {"instruction": "a", "input": None, "output": None, "x": mark}
    ]
    assert pool.quarantine["reason"].to_pylist() == ["no instruction"]


def test_a_text_of_json_is_never_a_missing_value(write):
    pool = read_pool(write("pool.jsonl", [{"instruction": "What is it?", "input": "null", "output": "NaN"}]))
    assert (pool.table["input"].to_pylist(), pool.table["output"].to_pylist()) == (["null"], ["NaN"])


def test_a_pool_without_a_usable_row_names_the_first_ten_reasons(write):
    with pytest.raises(PoolError) as raised:
        read_pool(write("pool.jsonl", b"x\n" + b'{"instruction": ""}\n[]\n' * 7))
    message = str(raised.value)
    assert "pool.jsonl has no usable row: row 1: not valid JSON: Expecting value; row 2: the instruction" in message
    assert message.endswith("row 10: the instruction is empty; and 5 more")
    assert message.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["instruction", "input", "output", "messages", "id", "x"]) | st.text(
    st.characters(exclude_categories=[]), max_size=2
)
TEXTS = st.sampled_from(string.ascii_lowercase[:4]) | JSON
ROWS = st.lists(st.dictionaries(NAMES, TEXTS) | st.fixed_dictionaries({"instruction": TEXTS, "x": JSON}) | JSON)


def _check(name: str, content: bytes) -> None:
    """Check that counts add up, ids are unique and the store can write both tables."""
    path = Path(name)
    path.write_bytes(content)
    try:
        pool = read_pool(name)
    except PoolError:
        return
    assert pool.rows_read == pool.quarantined + pool.duplicates + pool.table.num_rows
    assert pool.quarantine.num_rows == pool.quarantined + pool.duplicates
    assert pool.table.select(POOL.names).schema == POOL
    assert pool.quarantine.schema == QUARANTINE
    rows = pool.table["row"].to_pylist()
    assert rows == sorted(rows)
    assert not set(rows) & set(pool.quarantine["row"].to_pylist())
    assert len(set(pool.table["id"].to_pylist())) == pool.table.num_rows
    for table in (pool.table, pool.quarantine):
        table.validate(full=True)
        file = pa.BufferOutputStream()
        pq.write_table(table, file)
        assert pq.ParquetFile(pa.BufferReader(file.getvalue())).read().schema.equals(table.schema)


@settings(max_examples=30, deadline=None)
@given(rows=ROWS)
def test_any_json_lines_are_read_or_refused(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    _check(str(path), b"".join(json.dumps(row).encode() + b"\n" for row in rows))


@settings(max_examples=30, deadline=None)
@given(rows=ROWS)
def test_any_json_list_is_read_or_refused(tmp_path_factory, rows):
    _check(str(tmp_path_factory.getbasetemp() / "any.json"), json.dumps(rows).encode())


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary() | st.text('",\n\r\tab é').map(str.encode), suffix=st.sampled_from([".csv", ".tsv", ".jsonl"])
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, suffix):
    head = b"" if suffix == ".jsonl" else b"instruction,a\n" if suffix == ".csv" else b"instruction\ta\n"
    _check(str(tmp_path_factory.getbasetemp() / f"any{suffix}"), head + content)


DOLLY = Path(__file__).resolve().parents[3] / "shared/data/dolly_3k.jsonl"


@pytest.mark.skipif(not DOLLY.exists(), reason="the 3,000 rows of Dolly are not beside this checkout")
def test_three_thousand_rows_of_dolly():
    pool = read_pool(str(DOLLY))
    assert (pool.rows_read, pool.quarantined, pool.layout) == (2996, 0, "instruction")
    assert pool.duplicates == 15
    assert pool.table.column_names == [*POOL.names, "category"]
