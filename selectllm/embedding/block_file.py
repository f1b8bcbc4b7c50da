"""Vectors in a file, in blocks of which each can be read alone: more of them than fit into memory."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import numpy as np

from selectllm.blocks import Blocks
from selectllm.errors import StoreError
from selectllm.queries import Rows, Vectors

_BYTES: Final = 4  # of a float32


class BlockFile:
    """A file for blocks of so many vectors of so many float32 numbers, each filled from its start.

    The file lies in `folder`, or where temporary files do, and has no name: whatever ends the process removes it, too.
    Raises StoreError where it cannot be written or read.
    """

    def __init__(self, folder: str | None, sizes: Sequence[int], dimension: int) -> None:
        self.sizes, self.dimension = list(sizes), dimension
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._filled = np.zeros(len(sizes), dtype=np.int64)
        self._rows = np.empty(sum(sizes), dtype=np.int64)
        self._folder = folder
        with self._failures():
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".vectors-")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "BlockFile":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # nothing in it is needed any more, and a full disk has been reported
            self._file.close()

    def append(self, blocks: Blocks, rows: Rows, vectors: Vectors) -> None:
        """Add the vectors (n, d) of rows, by their numbers (n,), each to its own of the blocks (n,)."""
        order = np.argsort(blocks, kind="stable")
        bounds = np.searchsorted(blocks[order], np.arange(len(self.sizes) + 1))
        for block in np.flatnonzero(np.diff(bounds)):
            members = order[bounds[block] : bounds[block + 1]]
            place = self._starts[block] + self._filled[block]
            self._rows[place : place + len(members)] = rows[members]
            self._filled[block] += len(members)
            with self._failures():
                self._file.seek(int(place) * self.dimension * _BYTES)
                self._file.write(np.ascontiguousarray(vectors[members], dtype=np.float32).data)

    def read(self, block: int) -> tuple[Rows, Vectors]:
        """The numbers of the rows of a block, in ascending order, and their vectors."""
        start, count = int(self._starts[block]), int(self._filled[block])
        rows, vectors = self._rows[start : start + count], np.empty((count, self.dimension), dtype=np.float32)
        with self._failures():
            self._file.seek(start * self.dimension * _BYTES)
            self._file.readinto(vectors.data)
        order = np.argsort(rows, kind="stable")
        is_in_order = bool((order == np.arange(count)).all())
        return (rows, vectors) if is_in_order else (rows[order], vectors[order])

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = repr(self._folder) if self._folder else "the folder for temporary files"
            raise StoreError(
                f"the vectors of a large pool cannot be kept for a while in {place}: {error.strerror}. Free space, "
                "then run again: it goes on from what is stored"
            ) from error
