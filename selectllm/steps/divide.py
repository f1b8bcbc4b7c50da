"""Divides the vectors of an artifact into queries: as a whole, or block by block where there are too many to hold."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from selectllm import blocks, queries
from selectllm.embedding.block_file import BlockFile
from selectllm.embedding.vector_cache import matrix
from selectllm.queries import EMPTY, Rows, Vectors
from selectllm.settings import QuerySettings
from selectllm.steps.cache import StepResult
from selectllm.store import Store


class StoredVectors:
    """The vectors of embeddings, or of some of their `rows` in ascending order; iterating gives them in parts.

    Those of up to `blocks.WHOLE_ROWS` embeddings are held, since later steps need them too. More are read anew for each
    iteration, a few thousand at a time.
    """

    def __init__(self, store: Store, embeddings: StepResult, rows: Rows | None = None) -> None:
        self._store, self._embeddings, self._rows = store, embeddings, rows
        self._is_held = embeddings.manifest.rows <= blocks.WHOLE_ROWS

    def __len__(self) -> int:
        return self._embeddings.manifest.rows if self._rows is None else len(self._rows)

    def __iter__(self) -> Iterator[Vectors]:
        if self._is_held:
            yield self.whole()
            return
        start = 0
        for batch in self._embeddings.batches(self._store, ["vector"]):
            vectors: Vectors = batch["vector"].flatten().to_numpy().reshape(len(batch), -1)
            if self._rows is not None:
                low, high = np.searchsorted(self._rows, (start, start + len(batch)))
                vectors, start = vectors[self._rows[low:high] - start], start + len(batch)
            yield vectors

    def whole(self) -> Vectors:
        """All of them (M, d), in memory."""
        if not self._is_held:
            return np.concatenate(list(self))
        vectors = matrix(self._embeddings.table(self._store))
        return vectors if self._rows is None else vectors[self._rows]

    def take(self, rows: Rows) -> Vectors:
        """The vectors of some of them, by their places in ascending order."""
        if self._is_held:
            vectors = self.whole()
            return vectors if len(rows) == len(vectors) else vectors[rows]
        return blocks.take(self, rows)

    def block_file(self, sizes: Sequence[int]) -> BlockFile:
        """A file for them in blocks, on the store's own disk if that is local."""
        return BlockFile(self._store.scratch, sizes, self._embeddings.facts["dimension"])

    @cached_property
    def ids(self) -> pa.ChunkedArray:
        """The ids of all rows of the embeddings, in their order."""
        return self._embeddings.ids(self._store)


def divide(
    vectors: StoredVectors, options: QuerySettings, seed: int, centroids: Vectors | None, *, by_blocks: bool = True
) -> Rows:
    """The queries (T, K) of all vectors, by their places; `by_blocks` where there are more than `blocks.WHOLE_ROWS`.

    Blocks lie in a `BlockFile` meanwhile, which is as large as the vectors.
    """
    size, composition = options.size, options.composition
    sizes = blocks.block_sizes(len(vectors), size)
    if len(sizes) <= 1 or not by_blocks:
        return queries.build_queries(vectors.whole(), size, composition, seed, centroids)
    if composition == "random":
        return queries.build_queries(np.empty((len(vectors), 0), dtype=np.float32), size, composition, seed)
    block_of = blocks.deal_alike(vectors, sizes, seed) if composition == "similar" else blocks.deal(sizes, seed)
    divided = np.empty((-(-len(vectors) // size), size), dtype=np.int64)
    start = first = 0
    with vectors.block_file(sizes) as file:
        for part in vectors:
            rows = np.arange(start, start + len(part))
            file.append(block_of[rows], rows, part)
            start += len(part)
        for block in range(len(sizes)):
            rows, part = file.read(block)
            found = queries.build_queries(part, size, composition, seed + block, centroids)
            divided[first : first + len(found)] = np.where(found == EMPTY, EMPTY, rows[found])
            first += len(found)
    return divided
