"""Arrow tables to and from Parquet, and in order, by the calling thread alone.

Arrow's own threads let go of a buffer whenever they get to it. When that buffer is Python's and the interpreter is just
shutting down, the process aborts, after all its work was done: so reading and sorting stay off them.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, BinaryIO, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS: Final = 8192
"""Rows of a table that is read in parts, of which one part at a time is in memory."""

_BUFFER_BYTES: Final = 1 << 20  # of each column; without it a whole column of a row group is read at once

_MAPPED_ROWS: Final = 65_536

NO_NOTES: Final[Mapping[str, str]] = MappingProxyType({})

SortKey = tuple[str, Literal["ascending", "descending"]]


def from_parquet(content: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file; raises pyarrow.ArrowInvalid or OSError when they are none."""
    parquet = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    try:
        return parquet.read(use_threads=False)
    except pa.ArrowNotImplementedError:  # it cannot join lists of categories, or of very long texts
        groups = range(parquet.num_row_groups)
        return pa.concat_tables(parquet.read_row_group(group, use_threads=False) for group in groups)


def from_parquet_files(files: Iterable[IO[bytes]], rows: int) -> pa.Table:
    """The table of so many `rows` in open Parquet files, one after the other; raises as `from_parquet` does.

    A table of vectors is read in parts into one array. Read at once, Arrow would hold it three times: as it is in the
    file, as levels of lists, and as numbers.
    """
    opened = map(_opened, files)
    first = next(opened)
    schema = first.schema_arrow
    place = schema.get_field_index("vector")
    if place < 0 or not pa.types.is_fixed_size_list(schema.field(place).type) or schema.field(place).nullable:
        tables = [parquet.read(use_threads=False) for parquet in chain([first], opened)]
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    field = schema.field(place)
    vectors = np.empty((rows, field.type.list_size), field.type.value_type.to_pandas_dtype())
    others, start = [], 0
    for parquet in chain([first], opened):
        for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
            part = vectors[start : start + len(batch)]
            part[:] = batch.column(place).flatten().to_numpy(zero_copy_only=False).reshape(part.shape)
            others.append(batch.drop_columns(field.name).replace_schema_metadata(None))
            start += len(batch)
    table = pa.Table.from_batches(others, schema.remove(place).remove_metadata()).combine_chunks()
    return table.add_column(place, field, pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=field.type))


def _opened(file: IO[bytes]) -> pq.ParquetFile:
    return pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def mapped_from_parquet(files: Iterable[IO[bytes]], place: Path) -> pa.Table:
    """The table in open Parquet files, laid out in a file at `place`, whose name is then removed.

    The system reads what of it is looked at, and may forget it again: so it takes no memory that others need. The file
    is gone when nobody has the table any more. Raises as `from_parquet` does.
    """
    opened = map(_opened, files)
    first = next(opened)
    try:
        # A stream: a file of Arrow's allows a column of categories only one list of these.
        with pa.ipc.new_stream(str(place), first.schema_arrow) as writer:
            for parquet in chain([first], opened):
                for batch in parquet.iter_batches(_MAPPED_ROWS, use_threads=False):
                    writer.write_batch(batch)
        options = pa.ipc.IpcReadOptions(use_threads=False)
        return pa.ipc.open_stream(pa.memory_map(str(place)), options=options).read_all()
    finally:
        with suppress(OSError):  # some systems keep a file that is mapped; it is removed when it is stale
            place.unlink(missing_ok=True)


def in_batches(file: IO[bytes], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of an open Parquet file, in parts; of the others nothing is read."""
    yield from _opened(file).iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False)


def values_at(column: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> list[Any]:
    """The values of a column at some rows, in any order.

    Arrow's own `take` joins all chunks of a column before, and fails where it has more than 2 GiB of text.
    """
    wanted, place = np.unique(rows, return_inverse=True)
    is_wanted = np.zeros(len(column), dtype=bool)
    is_wanted[wanted] = True
    values = column.filter(pa.array(is_wanted)).to_pylist()
    return [values[each] for each in place.tolist()]


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = pa.BufferOutputStream()  # Arrow's own: of Python's, every piece is a copy and a call
    pq.write_table(table, buffer, row_group_size=_row_group(table.schema), **_packing(table.schema))
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def write_parquet(
    file: BinaryIO, schema: pa.Schema, parts: Iterable[pa.Table], notes: Mapping[str, str] = NO_NOTES
) -> tuple[int, int, str]:
    """Write a table that comes in parts to an open file; returns its rows, its bytes and their SHA-256.

    `notes` are written at the file's end, where `notes_of` finds them, and no reader of tables looks.
    """
    hashed, rows = _HashedFile(file), 0
    with pq.ParquetWriter(hashed, schema, **_packing(schema)) as writer:
        for part in parts:
            writer.write_table(part, _row_group(schema))  # in row groups of its own, so that no other part is held
            rows += len(part)
        if notes:
            writer.add_key_value_metadata(dict(notes))
    return rows, hashed.size, hashed.digest.hexdigest()


def notes_of(file: BinaryIO) -> dict[str, str]:
    """The notes at the end of an open Parquet file, of which no more is read; raises as `from_parquet` does."""
    notes = pq.read_metadata(file).metadata or {}
    return {name.decode(): value.decode() for name, value in notes.items()}


class _HashedFile(io.RawIOBase):
    """A file that is written from its start to its end, and what it holds then."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._file.write(content)
        self.digest.update(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        return self.size


def _packing(schema: pa.Schema) -> dict[str, Any]:
    # Numbers of vectors hardly repeat: packing them saves a tenth of the bytes, and takes four times as long.
    is_of_vectors = _is_of_vectors(schema)
    return {"compression": "none" if is_of_vectors else "zstd", "use_dictionary": not is_of_vectors}


def _row_group(schema: pa.Schema) -> int | None:
    # A row group is in memory until it is written, and vectors are large. None is pyarrow's default: a million rows.
    return BATCH_ROWS if _is_of_vectors(schema) else None


def _is_of_vectors(schema: pa.Schema) -> bool:
    return "vector" in schema.names


def in_order(table: pa.Table, *keys: SortKey) -> pa.Table:
    """The table's rows sorted by columns; unlike Table.sort_by, without threads."""
    return table.take(pc.sort_indices(table, sort_keys=list(keys)))
