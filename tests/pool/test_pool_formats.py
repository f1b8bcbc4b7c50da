import codecs
import gzip
import io
import json
import time
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selectllm.errors import PoolError
from selectllm.pool import file_format
from selectllm.report.output import json_lines
from selectllm.schemas import POOL, QUARANTINE
from selectllm.store.tables import from_parquet, write_parquet
from tests.pool.reading import read_pool

SUFFIXES = [".jsonl", ".ndjson", ".jsonlines", ".json", ".csv", ".tsv", ".parquet", ".arrow"]
ROWS = [
    {"instruction": "Add the numbers.", "input": "1, 2", "output": "3", "topic": "arithmetic"},
    {"instruction": 'Say "héllo",\nthen stop.', "input": "a\tb", "output": "héllo", "topic": "007"},
    {"instruction": "Name a colour.\u2028Any.", "input": "", "output": "", "topic": ""},
]


@pytest.mark.parametrize("end", ["", ".gz", ".bz2", ".xz", ".zst", ".zip"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_table(write, suffix, end):
    pool = read_pool(write("pool" + suffix + end, ROWS))
    table = pool.table
    assert table.schema.names == [*POOL.names, "topic"]
    assert table.select(POOL.names).schema == POOL
    assert table["instruction"].to_pylist() == [row["instruction"] for row in ROWS]
    assert table["input"].to_pylist() == ["1, 2", "a\tb", None]
    assert table["output"].to_pylist() == ["3", "héllo", None]
    assert table["topic"].to_pylist() == ["arithmetic", "007", ""]
    assert table["row"].to_pylist() == ([2, 3, 5] if suffix in (".csv", ".tsv") else [1, 2, 3])
    assert pool.quarantine.schema == QUARANTINE
    assert (pool.rows_read, pool.quarantined, pool.duplicates, pool.layout) == (3, 0, 0, "instruction")


def test_the_same_row_has_the_same_id_in_every_format(write):
    ids = {tuple(read_pool(write("pool" + suffix, ROWS)).table["id"].to_pylist()) for suffix in SUFFIXES}
    assert len(ids) == 1


def test_the_file_extension_determines_the_format():
    assert file_format("a.b/POOL.JSONL.GZ") == ".jsonl.gz"
    assert file_format("https://host/pool.csv?download=true#top") == ".csv"
    assert file_format("what?.json") == ".json"
    with pytest.raises(PoolError, match=r"pool\.xlsx does not end .*\.jsonl, .*\.parquet"):
        file_format("pool.xlsx")


def test_arrow_streams_are_read_as_arrow_files_are(write):
    table = pa.Table.from_pylist(ROWS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    assert (
        read_pool(write("pool.arrow", sink.getvalue().to_pybytes())).table == read_pool(write("pool.arrow", ROWS)).table
    )


@pytest.mark.parametrize("end", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_damaged_compressed_file_is_refused(write, end):
    with pytest.raises(PoolError, match=r"that can be unpacked: .*\. Fetch or write it again"):
        read_pool(write("pool.jsonl" + end, b"PK and no more"))


def test_an_archive_of_several_files_is_refused_by_their_names(write, tmp_path):
    with zipfile.ZipFile(tmp_path / "pool.jsonl.zip", "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}.jsonl", "{}")
    with pytest.raises(PoolError, match=r"holds 2 files where one is needed: a\.jsonl, b\.jsonl\. Unpack it"):
        read_pool(str(tmp_path / "pool.jsonl.zip"))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_a_byte_order_mark_is_not_part_of_the_first_column_name(write, suffix):
    plain = write("plain" + suffix, ROWS)
    with open(plain, "rb") as file:
        marked = write("marked" + suffix, codecs.BOM_UTF8 + file.read())
    assert read_pool(marked).table == read_pool(plain).table


def test_blank_lines_are_skipped_but_counted_as_lines(write):
    pool = read_pool(write("pool.jsonl", '\n{"instruction": "a"}\r\n \t\r\n\n{"instruction": "b"}'))
    assert pool.table["row"].to_pylist() == [2, 5]
    assert pool.rows_read == 2
    pool = read_pool(write("pool.csv", '\ninstruction,n\r\n\r\n  \r\na,1\r\n"b\r\n\r\nb",2'))
    assert pool.table["row"].to_pylist() == [5, 6]
    assert pool.table["instruction"].to_pylist() == ["a", "b\r\n\r\nb"]
    assert pool.rows_read == 2


def test_json_lines_are_read_from_a_json_file(write):
    assert read_pool(write("pool.json", '\n {"instruction": "a"}\n{"instruction": "b"}\n')).table.num_rows == 2
    assert read_pool(write("pool.json", '{"instruction": "a"}')).table.num_rows == 1


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_list_is_read_from_a_file_of_json_lines(write, indent):
    pool = read_pool(write("pool.jsonl", json.dumps([{"instruction": "a"}, {"instruction": "b"}, 3], indent=indent)))
    assert pool.table["instruction"].to_pylist() == ["a", "b"]
    assert pool.quarantine.select(["row", "reason"]).to_pylist() == [
        {"row": 3, "reason": "not a JSON object but a number"}
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n "instruction": "a"\n}', "holds one JSON object where a list of objects is needed"),
        ('{"a":\n{"instruction": "a"}\n}', "holds one JSON object where a list of objects is needed"),
        ('{"version": 2, "data": [{"instruction": "a"}, {"instruction": "b"}]}', "holds its rows within 'data'"),
        ("3", "holds a number where a list of objects is needed"),
        ('[{"instruction": "a"},\n]', "is not valid JSON in line 2"),
        ("[" * 100_000, "is nested more than 64 levels deep"),
        ("[" + "1" * 5_000 + "]", "is not valid JSON: a number has too many digits"),
        (b'["\xff"]', "is not UTF-8 at byte 2"),
        ("[]", "has no rows"),
    ],
)
def test_a_json_file_without_a_list_of_objects_is_refused(write, content, message):
    with pytest.raises(PoolError, match=message):
        read_pool(write("pool.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("instruction,,b\nx,y,z\n", "no name for column 2"),
        (",index\nx,y\n", "no name for column 1"),
        ("instruction,b,b\nx,y,z\n", "names columns twice: b"),
        ('"instruction\nx\n', "header that cannot be read: not valid CSV: a quote is not closed"),
        (b"instruction,\xff\nx,y\n", "header that cannot be read: not UTF-8"),
        ("instruction,b\n", "has no rows"),
        ("\n\n", "neither a header nor rows"),
    ],
)
def test_an_unusable_csv_header_is_refused(write, content, message):
    with pytest.raises(PoolError, match=message):
        read_pool(write("pool.csv", content))


def rows_of(pool):
    """Instruction and input of each row."""
    return [tuple(row.values()) for row in pool.table.select(["instruction", "input"]).to_pylist()]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    "content",
    [
        "instruction,input\na,b\n",
        "instruction, input\na, b\n",
        '"instruction", "input"\n"a", "b"\n',
        "instruction;input\r\na;b\r\n",
        "instruction\tinput\na\tb\n",
        "instruction|input\na|b\n",
        "sep=;\ninstruction;input\na;b\n",
        '"sep=;"\r\n"instruction";"input"\r\na;b\r\n',
        "\ufeff\ufeffinstruction,input\na,b\n",
        "\ufeff" + '"instruction","input"\na,b\n',
        ",instruction,input\n0,a,b\n",
        '"","instruction","input"\n"1","a","b"\n',
    ],
)
def test_separated_values_are_read_as_people_write_them(write, suffix, content):
    pool = read_pool(write("pool" + suffix, content))
    assert (rows_of(pool), pool.rows_read, pool.layout) == ([("a", "b")], 1, "instruction")


@pytest.mark.parametrize("name", ["pool.csv", "pool.tsv", "pool.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_with_its_mark_is_read(write, name, encoding):
    content = '{"instruction": "é"}\n' if name.endswith("l") else "instruction\té\né\t1\n"
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    assert read_pool(write(name, mark + content.encode(encoding))).table["instruction"].to_pylist() == ["é"]
    with pytest.raises(PoolError, match=r"is not UTF-16 at byte \d+\. Save it as UTF-8"):
        read_pool(write(name, mark + content.encode(encoding) + b"x"))


def test_the_index_of_pandas_is_carried(write):
    pool = read_pool(write("pool.csv", ",instruction\n7,a\n"))
    assert pool.table["index"].to_pylist() == ["7"]


def test_a_header_between_rows_is_quarantined_as_such(write):
    pool = read_pool(write("pool.csv", "instruction,n\na,1\n\ufeffinstruction,n\nb,2\ninstruction,3\n"))
    assert pool.table["instruction"].to_pylist() == ["a", "b", "instruction"]
    assert pool.quarantine.select(["row", "reason"]).to_pylist() == [{"row": 3, "reason": "the header once more"}]


PLAIN = [
    '"Open sesame',
    "Describe the harbour of a small town",
    'Name three uses of chalk"',
    '"Fully quoted words" open this line',
    'He said "hello" and left',
    '"never closed',
]


@pytest.mark.parametrize("order", ["{0}\t{1}", "{1}\t{0}"], ids=["first", "last"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_in_a_plain_tsv_cell_is_text_and_swallows_no_row(write, order, end):
    lines = [order.format(text, number) for number, text in enumerate(["instruction", *PLAIN])]
    pool = read_pool(write("pool.tsv", end.join(lines)))
    assert pool.table["instruction"].to_pylist() == PLAIN
    assert pool.table["row"].to_pylist() == list(range(2, 8))
    assert pool.rows_read == len(PLAIN)


def test_a_quoted_tsv_cell_may_span_lines(write):
    pool = read_pool(write("pool.tsv", 'instruction\tinput\n"a\n""b""\tc"\tx\ny\tz\n'))
    assert rows_of(pool) == [('a\n"b"\tc', "x"), ("y", "z")]


def test_an_unclosed_quote_loses_only_one_csv_line(write):
    pool = read_pool(write("pool.csv", 'instruction,n\n"a,1\nb,2\nc,3\n"d\nd",4\n"e,5\nf,6\n'))
    assert pool.table["instruction"].to_pylist() == ["b", "c", "d\nd", "f"]
    assert pool.quarantine["row"].to_pylist() == [2, 7]
    assert pool.quarantine["text"].to_pylist() == ['"a,1', '"e,5']


def test_unclosed_quotes_are_read_in_linear_time(write):
    started = time.monotonic()
    with pytest.raises(PoolError, match="a quote is not closed"):
        read_pool(write("pool.csv", "instruction,n\n" + 'a","\n' * 50_000))
    assert time.monotonic() - started < 10


def test_a_large_field_is_read_completely(write):
    assert (
        len(read_pool(write("pool.csv", f"instruction\n{'a' * 500_000}\n")).table["instruction"][0].as_py()) == 500_000
    )


def test_unusable_bytes_are_refused_quickly(write):
    started = time.monotonic()
    for content in (b"\x00\xff\n" * 100_000, b"[" * 10_000_000, b"1" * 10_000_000, b"\x00" * 10_000_000):
        with pytest.raises(PoolError, match="has no usable row: row 1: "):
            read_pool(write("pool.jsonl", content))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pool.jsonl", b"", "is empty"),
        ("pool.csv.gz", b"", "is empty"),
        ("pool.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("pool.jsonl", b" \n\n", "has no rows"),
        ("pool.jsonl.gz", b"not gzip", "is not gzip that can be unpacked"),
        ("pool.jsonl.gz", gzip.compress(b'{"instruction": "a"}', mtime=0)[:-9], "is not gzip that can be unpacked"),
        ("pool.jsonl.gz", gzip.compress(b"x" * 999, mtime=0)[:12] + b"\xff" * 20, "is not gzip that can be unpacked"),
        ("pool.parquet", b"PAR1 and no more", "is not a Parquet file that can be read"),
        ("pool.parquet.gz", gzip.compress(b"PAR1", mtime=0), "is not a Parquet file that can be read"),
        ("pool.parquet", pa.table({"instruction": pa.array([], pa.string())}), "has no rows"),
        ("pool.arrow", b"ARROW1 and no more", "is not an Arrow file that can be read"),
        ("pool.parquet", pa.table([["a"], ["b"]], ["x", "x"]), "names columns twice: x"),
        ("pool.jsonl", "\n".join(json.dumps({f"k{i}": 1}) for i in range(2000)), "more than 1000 columns by row 1001"),
    ],
)
def test_a_damaged_file_is_refused(write, name, content, message):
    path = write(name, content)
    with pytest.raises(PoolError, match=message) as raised:
        read_pool(path)
    assert "\n" not in str(raised.value)


def test_parquet_keeps_types_and_reads_all_string_types(write):
    stamps = pa.array([1, 2, None], pa.timestamp("ns"))
    table = pa.table(
        {
            "instruction": pa.array(["a", "b", "a"]).dictionary_encode(),
            "input": pa.array(["x", None, "x"], pa.large_string()),
            "output": pa.array([b"1", b"2", b"3"]),
            "when": stamps,
            "tags": pa.array([["p"], [], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        }
    )
    pool = read_pool(write("pool.parquet", table))
    assert pool.table.column_names == [*POOL.names, "when", "tags"]
    assert pool.table["instruction"].to_pylist() == ["a", "b"]
    assert pool.table["output"].to_pylist() == ["1", "2"]
    assert pool.table["when"].combine_chunks() == stamps[:2]
    assert pool.table.schema.field("tags").type == pa.list_(pa.string()), "Arrow cannot join lists of categories"
    assert pool.quarantine.to_pylist()[0]["reason"] == "duplicate of row 1"
    assert json.loads(pool.quarantine["text"][0].as_py())["instruction"] == "a"


def test_parquet_columns_of_views_are_read(write):
    views = {"instruction": pa.array(["a", "b"], pa.string_view()), "x": pa.array([b"1", None], pa.binary_view())}
    pool = read_pool(write("pool.parquet", pa.table(views)))
    assert pool.table["instruction"].to_pylist() == ["a", "b"]
    assert pool.table["x"].take(pa.array([0, 1])).to_pylist() == [b"1", None]


@pytest.mark.parametrize(
    "of", [pa.list_, pa.large_list, lambda type_: pa.struct([("k", type_)]), lambda type_: pa.map_(type_, type_)]
)
def test_categories_within_other_types_are_read_from_any_number_of_row_groups(write, of):
    """Arrow writes them, and cannot read them from more than one row group."""
    values = [["p", "q"], None, ["q"], []]
    if pa.types.is_struct(of(pa.string())):
        values = [{"k": "p"}, None, {"k": "q"}, {"k": None}]
    elif pa.types.is_map(of(pa.string())):
        values = [[("p", "q")], None, [("q", "q")], []]
    column = pa.array(values, of(pa.string())).cast(of(pa.dictionary(pa.int8(), pa.string())))
    path = write("pool.parquet", [{"instruction": "a"}])
    pq.write_table(pa.table({"instruction": ["a", "b", "c", "d"], "tags": column}), path, row_group_size=2)
    table = read_pool(path).table
    assert table["tags"].to_pylist() == values
    file = io.BytesIO()
    write_parquet(file, table.schema, [table.slice(row, 1) for row in range(4)])
    assert from_parquet(file.getvalue())["tags"].to_pylist() == values


def test_parquet_text_that_is_not_utf8_quarantines_only_its_row(write):
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a\xff", b"b"]).buffers())
    pool = read_pool(write("pool.parquet", pa.table({"instruction": broken})))
    assert pool.table["instruction"].to_pylist() == ["b"]
    assert pool.quarantine.to_pylist() == [
        {"row": 1, "reason": "the instruction is not UTF-8", "text": '{"instruction": "b\'a\\\\xff\'"}'}
    ]


def test_parquet_with_a_column_name_that_is_not_utf8_is_refused(write):
    with open(write("pool.parquet", [{"instruction": "a"}]), "rb") as file:
        content = file.read().replace(b"instruction", b"instruct\xffon")
    with pytest.raises(PoolError, match="is not a Parquet file that can be read"):
        read_pool(write("pool.parquet", content))


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (2**55, pa.timestamp("ms")),
        (2**30, pa.date32()),
        (2**62, pa.timestamp("us", "UTC")),
        (0, pa.timestamp("us", "Nowhere/Land")),
        (2**62, pa.duration("s")),
        (1, pa.timestamp("ns")),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_dates_beyond_python_keep_their_type_and_are_text_in_json(write, value, type_, nested):
    far = pa.array([value, None], type_)
    column = pa.StructArray.from_arrays([far], ["when"]) if nested else far
    table = read_pool(write("pool.parquet", pa.table({"instruction": ["a", "b"], "x": column}))).table
    assert table["x"].combine_chunks() == column
    lines = [json.loads(line)["x"] for line in json_lines(table).splitlines()]
    first, second = [line["when"] if nested else line for line in lines]
    assert (isinstance(first, str), second) == (True, None)


def test_values_that_python_cannot_represent_are_shown_in_quarantine(write):
    both = pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["n", "n"])
    pool = read_pool(write("pool.parquet", pa.table({"instruction": ["a", ""], "x": both})))
    assert pool.table.schema.field("x").type == both.type
    assert json.loads(pool.quarantine["text"][0].as_py())["instruction"] == ""
