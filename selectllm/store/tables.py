"""Arrow tables to and from Parquet, and in order, by the calling thread alone.

Arrow's own threads let go of a buffer whenever they get to it. When that buffer is Python's and the interpreter is just
shutting down, the process aborts, after all its work was done: so reading and sorting stay off them.
"""

import io
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SortKey = tuple[str, Literal["ascending", "descending"]]


def from_parquet(content: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file; raises pyarrow.ArrowInvalid or OSError when they are none."""
    return pq.ParquetFile(pa.BufferReader(content), pre_buffer=False).read(use_threads=False)


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def in_order(table: pa.Table, *keys: SortKey) -> pa.Table:
    """The table's rows sorted by columns; unlike Table.sort_by, without threads."""
    return table.take(pc.sort_indices(table, sort_keys=list(keys)))
