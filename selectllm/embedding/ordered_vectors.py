"""Vectors of a large pool that come in any order, and are read in the order of their rows."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.blocks import BLOCK_ROWS
from selectllm.embedding.block_file import BlockFile
from selectllm.queries import Rows, Vectors

Bytes = npt.NDArray[np.bytes_]


class OrderedVectors:
    """Vectors of so many rows in a `BlockFile`, which is opened in `folder` when the first ones come.

    `known` (M,) tells which rows have one. Iterating gives all vectors in the order of their rows, in parts (n, d).
    """

    def __init__(self, folder: str | None, rows: int) -> None:
        self.known = np.zeros(rows, dtype=bool)
        self._folder, self._file = folder, None

    _file: BlockFile | None

    def __enter__(self) -> "OrderedVectors":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.__exit__()

    @property
    def dimension(self) -> int:
        """The numbers of each vector; 0 while there is none."""
        return self._file.dimension if self._file else 0

    def add(self, rows: Rows, vectors: Vectors) -> None:
        """Keep the vectors (n, d) of different rows (n,), but for rows that have one."""
        if self._file is None:
            count = len(self.known)
            sizes = [min(BLOCK_ROWS, count - start) for start in range(0, count, BLOCK_ROWS)]
            self._file = BlockFile(self._folder, sizes, vectors.shape[1])
        is_new = ~self.known[rows]
        rows = rows[is_new]
        self._file.append((rows // BLOCK_ROWS).astype(np.int32), rows, vectors[is_new])
        self.known[rows] = True

    def __iter__(self) -> Iterator[Vectors]:
        if self._file:
            for block in range(len(self._file.sizes)):
                yield self._file.read(block)[1]


class IdLookup:
    """Finds the places of ids among many, by halving, in arrays: Python's own strings would take thrice the memory."""

    def __init__(self, ids: Bytes) -> None:
        self._order = np.argsort(ids, kind="stable")
        self._in_order = ids[self._order]

    def find(self, ids: Bytes) -> Rows:
        """The first place (n,) of each id; -1 where there is none."""
        if not len(self._order):
            return np.full(len(ids), -1)
        near = np.searchsorted(self._in_order, ids).clip(max=len(self._order) - 1)
        return np.where(self._in_order[near] == ids, self._order[near], -1)

    def repeats(self) -> Iterator[tuple[int, int]]:
        """Places that hold the same id: the first one of each, and one of the others."""
        is_same = np.flatnonzero(self._in_order[1:] == self._in_order[:-1]) + 1
        first = np.searchsorted(self._in_order, self._in_order[is_same])
        yield from zip(self._order[first].tolist(), self._order[is_same].tolist(), strict=True)


def as_bytes(ids: pa.ChunkedArray) -> Bytes:
    """Ids, of which none is null, as an array of bytes in UTF-8."""
    width = max(1, pc.max(pc.binary_length(ids)).as_py() or 0)
    chunks = pc.ascii_rpad(ids, width, "\0").chunks  # of equal length now, one after the other
    parts = [np.frombuffer(chunk.buffers()[2], f"S{width}", len(chunk), chunk.offset * width) for chunk in chunks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.bytes_)
