"""Every vector that an embedding model has made, kept by row id: what was embedded once is not embedded again.

One folder a model in the store, to which shards are added and in which none is ever changed, so that several writers
need not know of each other. A shard's name is when it was written and the digest of its content: one that was damaged
is noticed and passed over. Of two vectors for one row the earlier counts, for every reader.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.embedding.ordered_vectors import IdLookup, OrderedVectors, as_bytes
from selectllm.queries import Rows, Vectors
from selectllm.schemas import embeddings
from selectllm.store import Store
from selectllm.store.tables import from_parquet, to_parquet

log = logging.getLogger(__name__)


class VectorCache:
    """The vectors in one store that were `made_by` one model in one way, as a digest of both tells."""

    def __init__(self, store: Store, made_by: str) -> None:
        self._store, self._folder, self._seen = store, f"vectors/{made_by}", set[str]()

    def add(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Keep the vectors (M, d) of M rows as a shard of their own, whole or not at all."""
        content = to_parquet(table_of(pa.array(ids, pa.string()), vectors))
        self._store.write_bytes(f"{self._folder}/{time.time_ns():020d}-{_digest(content)}.parquet", content)

    def gather(self, ids: Sequence[str], *, added: bool = False) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors (M, d) of M rows, and which rows have one; rows without have zeros, and d is 0 where none has.

        With `added`, only shards are read that this object has not read before: for rows that had no vector then.
        """
        found, known = np.empty((len(ids), 0), dtype=np.float32), np.zeros(len(ids), dtype=bool)
        lookup = IdLookup(as_bytes(pa.chunked_array([pa.array(ids, pa.string())])))
        for places, vectors in self._found(lookup, added=added) if ids else ():
            if not found.shape[1]:
                found = np.zeros((len(ids), vectors.shape[1]), dtype=np.float32)
            is_new = ~known[places]
            found[places[is_new]] = vectors[is_new]
            known[places] = True
        return found, known

    def gather_into(self, gathered: OrderedVectors, lookup: IdLookup, *, added: bool = False) -> None:
        """Gather vectors as `gather` does, into a file, for rows of a large pool among whose ids `lookup` finds."""
        for places, vectors in self._found(lookup, added=added):
            gathered.add(places, vectors)

    def _found(self, lookup: IdLookup, *, added: bool) -> Iterator[tuple[Rows, Vectors]]:
        """The places of rows, and their vectors, shard by shard."""
        for name in self._store.list(self._folder):
            if added and name in self._seen:
                continue
            self._seen.add(name)
            shard = self._read(name)
            if shard is None:
                continue
            places = lookup.find(as_bytes(shard["id"]))
            wanted = np.flatnonzero(places >= 0)
            yield places[wanted], matrix(shard)[wanted]

    def _read(self, name: str) -> pa.Table | None:
        content = self._store.read_bytes(name)
        if not name.endswith(f"-{_digest(content)}.parquet"):
            log.warning("%s was damaged since it was written: its rows are embedded again", self._store.address(name))
            return None
        return from_parquet(content)


def table_of(ids: pa.Array, vectors: Vectors) -> pa.Table:
    """Ids and their vectors (M, d) as a table of the schema EMBEDDINGS."""
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table([ids, flat], schema=embeddings(vectors.shape[1]))


def tables_of(ids: pa.ChunkedArray, parts: Iterable[Vectors]) -> Iterator[pa.Table]:
    """The same in parts, of vectors (n, d) that come in parts."""
    start = 0
    for part in parts:
        yield table_of(pa.concat_arrays(ids.slice(start, len(part)).chunks), part)
        start += len(part)


def matrix(table: pa.Table) -> Vectors:
    """The vectors (M, d) of a table of the schema EMBEDDINGS."""
    column = table["vector"]
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies even one chunk
    flat: Vectors = whole.flatten().to_numpy()
    return flat.reshape(len(table), -1)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
