"""Every vector that an embedding model has made, kept by row id: what was embedded once is not embedded again.

One folder a model in the store, to which shards are added and in which none is ever changed, so that several writers
need not know of each other. A shard's name is when it was written and the digest of its content: one that was damaged
is noticed and passed over. Of two vectors for one row the earlier counts, for every reader.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.embedding.ordered_vectors import IdLookup, OrderedVectors, as_bytes
from selectllm.queries import Rows, Vectors
from selectllm.schemas import embeddings
from selectllm.store import Store
from selectllm.store.tables import from_parquet, in_batches, to_parquet

log = logging.getLogger(__name__)


class KeptShard:
    """A shard that was just written: its name in the store, and its rows, of the schema EMBEDDINGS.

    It is no dataclass: Prefect would look through the vectors of one that a task returns.
    """

    def __init__(self, name: str, table: pa.Table) -> None:
        self.name, self.table = name, table


class VectorCache:
    """The vectors in one store that were `made_by` one model in one way, as a digest of both tells."""

    def __init__(self, store: Store, made_by: str) -> None:
        self._store, self._folder, self._seen = store, f"vectors/{made_by}", set[str]()
        self._held = dict[str, pa.Table]()

    def add(self, ids: Sequence[str], vectors: Vectors) -> KeptShard:
        """Keep the vectors (M, d) of M rows as a shard of their own, whole or not at all."""
        table = table_of(pa.array(ids, pa.string()), vectors)
        content = to_parquet(table)
        name = f"{self._folder}/{time.time_ns():020d}-{_digest(content)}.parquet"
        self._store.write_bytes(name, content)
        return KeptShard(name, table)

    def hold(self, shard: KeptShard) -> None:
        """Hold a shard that was just written in memory, until it is gathered: it is not read then."""
        self._held[shard.name] = shard.table

    def gather(self, ids: Sequence[str], *, added: bool = False) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """The vectors (M, d) of M rows, and which rows have one; rows without have zeros, and d is 0 where none has.

        With `added`, only shards are read that this object has not read before: for rows that had no vector then.
        """
        found, known = np.empty((len(ids), 0), dtype=np.float32), np.zeros(len(ids), dtype=bool)
        lookup = IdLookup(as_bytes(pa.chunked_array([pa.array(ids, pa.string())])))
        for places, vectors in self._found(lookup, added=added) if ids else ():
            if not found.shape[1]:
                found = np.zeros((len(ids), vectors.shape[1]), dtype=np.float32)
            places, vectors = _those(~known[places], places, vectors)
            found[places], known[places] = vectors, True
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
            shard = self._held.pop(name) if name in self._held else self._read(name, lookup)
            if shard is None:
                continue
            places = lookup.find(as_bytes(shard["id"]))
            yield _those(places >= 0, places, matrix(shard))

    def _read(self, name: str, lookup: IdLookup) -> pa.Table | None:
        """A shard that holds a row among those that are looked for; None for one that holds none, or was damaged."""
        with self._store.open_file(name) as file:
            with suppress(pa.ArrowException, OSError):  # what it was damaged by shows below
                ids = pa.Table.from_batches(in_batches(file, ["id"]))["id"]
                if (lookup.find(as_bytes(ids)) < 0).all():
                    return None
            file.seek(0)
            content = file.read()
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


def _those(is_wanted: npt.NDArray[np.bool_], places: Rows, vectors: Vectors) -> tuple[Rows, Vectors]:
    """The wanted ones of places and vectors; all of them, as is usual, without a copy."""
    return (places, vectors) if is_wanted.all() else (places[is_wanted], vectors[is_wanted])


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
