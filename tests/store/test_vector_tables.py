import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selectllm.embedding.vector_cache import table_of
from selectllm.store.tables import BATCH_ROWS, from_parquet, from_parquet_files, to_parquet, values_at, write_parquet


def vectors(rows: int) -> pa.Table:
    numbers = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    numbers[: rows // 2 : 7] = np.nan, -0.0, np.inf
    return table_of(pa.array([f"{row:032x}" for row in range(rows)], pa.string()), numbers)


@pytest.mark.parametrize("rows", [0, 1, BATCH_ROWS, 2 * BATCH_ROWS + 1])
def test_a_table_of_vectors_that_is_read_in_parts_is_the_one_that_was_written(rows: int) -> None:
    written = vectors(rows)
    read = from_parquet_files([io.BytesIO(to_parquet(written))], len(written))
    assert read.schema.equals(written.schema)
    assert read["id"].equals(written["id"])
    assert read["vector"].num_chunks == 1
    numbers, expected = (table["vector"].combine_chunks().flatten().to_numpy() for table in (read, written))
    assert numbers.tobytes() == expected.tobytes()


@pytest.mark.parametrize("type_", [pa.list_(pa.float32(), 2), pa.list_(pa.float32()), pa.string()])
def test_any_other_column_of_that_name_is_read_as_it_is(type_: pa.DataType) -> None:
    values = ["x", None] if type_ == pa.string() else [[1.0, 2.0], None]
    content = to_parquet(pa.table({"vector": pa.array(values, type_), "n": [1, 2]}))
    assert from_parquet_files([io.BytesIO(content)], 2).equals(from_parquet(content))


def test_values_at_any_rows_are_found_in_any_chunks() -> None:
    column = pa.chunked_array([["a", None], [], ["c", "d", "e"]])
    assert values_at(column, np.array([4, 1, 0, 4])) == ["e", None, "a", "e"]
    assert values_at(column, np.array([], dtype=np.int64)) == []


def test_vectors_are_written_in_row_groups_that_fit_into_memory() -> None:
    table, file = vectors(2 * BATCH_ROWS + 1), io.BytesIO()
    write_parquet(file, table.schema, [table])
    assert file.getvalue() == to_parquet(table)
    metadata = pq.read_metadata(io.BytesIO(file.getvalue()))
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [BATCH_ROWS, BATCH_ROWS, 1]
