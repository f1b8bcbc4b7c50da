"""Values that Python cannot hold are carried through a run: Parquet keeps them, all else gives them as text."""

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selectllm import RunSettings, plan_run, select
from selectllm.explain.explain import explain
from selectllm.report.format import format_selection
from selectllm.report.output import json_lines
from selectllm.store import Store
from selectllm.store.values import python_values

MakeRun = Callable[..., RunSettings]

FAR = 2**62
LATIN_1 = b"caf\xe9"


def times(type_: pa.DataType, *numbers: int) -> pa.Array:
    """Dates or times as the numbers that stand for them."""
    return pa.array(numbers, pa.int32() if pa.types.is_date32(type_) else pa.int64()).view(type_)


def not_utf8(type_: pa.DataType) -> pa.Array:
    """A column of text whose bytes are Latin-1."""
    binary = pa.array([LATIN_1], pa.binary_view() if type_ == pa.string_view() else pa.binary())
    return pa.Array.from_buffers(type_, 1, binary.buffers())


def twice(array: pa.Array) -> pa.Array:
    """Objects in which one name stands twice."""
    return pa.StructArray.from_arrays([array, array], ["a", "a"])


CASES: list[tuple[pa.Array, Any]] = [
    (times(pa.date32(), 10**7), "29349-01-26"),
    (times(pa.date32(), -(10**6)), "-0768-02-04"),
    (times(pa.date32(), 2**31 - 1), "2147483647 days"),
    (times(pa.timestamp("us"), FAR), f"{FAR} us"),
    (times(pa.timestamp("us", "UTC"), FAR), f"{FAR} us"),
    (times(pa.timestamp("us", "Europe/Berlin"), 253402300799 * 10**6), "9999-12-31 23:59:59.000000Z"),
    (times(pa.timestamp("ms", "Mars/Base"), 10), "1970-01-01 00:00:00.010Z"),
    (times(pa.timestamp("ns"), 3), "1970-01-01 00:00:00.000000003"),
    (times(pa.time64("ns"), 3), "00:00:00.000000003"),
    (times(pa.duration("s"), FAR), f"{FAR} s"),
    (times(pa.timestamp("s"), 5), "1970-01-01 00:00:05"),
    (not_utf8(pa.string()), str(LATIN_1)),
    (not_utf8(pa.string_view()), str(LATIN_1)),
    (pa.StructArray.from_arrays([not_utf8(pa.string()), pa.array([1])], ["t", "n"]), {"t": str(LATIN_1), "n": 1}),
    (twice(pa.array([1])), [["a", 1], ["a", 1]]),
    (twice(times(pa.date32(), 10**7)), [["a", "29349-01-26"]] * 2),
    (pa.array(["x"], pa.string_view()), "x"),
    (pa.array([b"x"], pa.binary_view()), "b'x'"),
    (pa.array([["x", None]], pa.list_(pa.string_view())), ["x", None]),
    (pa.array([["x"]], pa.large_list_view(pa.string())), ["x"]),
    (pa.array([["x", "y"]], pa.list_(pa.string_view(), 2)), ["x", "y"]),
    (pa.array([{"a": "x"}], pa.struct([("a", pa.string_view())])), {"a": "x"}),
    (pa.array([[("k", b"x")]], pa.map_(pa.string(), pa.binary_view())), [["k", "b'x'"]]),
    (pa.array([b"0" * 16], pa.uuid()), "30303030-3030-3030-3030-303030303030"),
]
IDS = [f"{column.type} {told}"[:60] for column, told in CASES]


@pytest.fixture
def carried(tmp_path: Path, make_run: MakeRun) -> Callable[[pa.Array], RunSettings]:
    """A run on a pool of two good rows and a quarantined one, each of which carries the one value of a column."""

    def make(column: pa.Array) -> RunSettings:
        texts = pa.array(["Explain the tides.", "Explain the seasons.", ""])
        pool = pa.table({"instruction": texts, "carried": pa.chunked_array([column] * 3)})
        pq.write_table(pool, tmp_path / "pool.parquet")
        out = str(tmp_path / "out")
        return make_run(pool=str(tmp_path / "pool.parquet"), budget=2, strategy="longest", out=out)

    return make


@pytest.mark.parametrize(("column", "told"), CASES, ids=IDS)
def test_a_value_is_told_in_json_and_kept_in_parquet(
    column: pa.Array, told: Any, carried: Callable[[pa.Array], RunSettings], tmp_path: Path
) -> None:
    run = carried(column)
    assert plan_run(run)["pool"]["kept"] == 2
    result = select(run)
    lines = (tmp_path / "out" / "selection.jsonl").read_text().splitlines()
    assert [json.loads(line)["carried"] for line in lines] == [told, told]
    kept = pq.read_table(tmp_path / "out" / "selection.parquet")["carried"]
    assert bytes_of(kept.slice(0, 1)) == bytes_of(pq.read_table(run.pool)["carried"].slice(0, 1).cast(kept.type))
    (quarantined,) = pq.read_table(tmp_path / "out" / "quarantine.parquet")["text"].to_pylist()
    assert json.loads(quarantined) == {"instruction": "", "carried": told}
    assert "Explain the tides." in format_selection(result, run.out, 120)
    for row in (1, 2, 3):
        assert explain(Store(run.store), f"row:{row}").row == row


def bytes_of(column: pa.ChunkedArray) -> bytes:
    """A column as Arrow writes it, for values that Python cannot compare."""
    stream = io.BytesIO()
    table = pa.table({"x": column.combine_chunks()})
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def test_values_that_python_holds_stay_what_they_are() -> None:
    column = pa.chunked_array([times(pa.timestamp("us"), 0, FAR)])
    assert python_values(column) == [datetime.datetime(1970, 1, 1), f"{FAR} us"]
    assert python_values(times(pa.time64("ns"), 3000)) == [datetime.time(0, 0, 0, 3)]
    assert python_values(pa.chunked_array([times(pa.date32(), 10**7), pa.nulls(1, pa.date32())])) == [
        "29349-01-26",
        None,
    ]


def test_numbers_that_json_lacks_are_null_within_a_map_too() -> None:
    table = pa.table({"m": pa.array([[("k", float("nan"))]], pa.map_(pa.string(), pa.float64()))})
    assert json.loads(json_lines(table.append_column("input", [["x"]]))) == {"m": [["k", None]], "input": "x"}
