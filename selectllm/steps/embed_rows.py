"""Embeds rows that no run has embedded, shard by shard, and gathers the vectors of all."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm import blocks, cancellation, quality
from selectllm.embedding import models
from selectllm.embedding.ordered_vectors import IdLookup, OrderedVectors, as_bytes
from selectllm.embedding.vector_cache import KeptShard, VectorCache
from selectllm.errors import StoreError
from selectllm.execution import WorkItem
from selectllm.queries import Rows, Vectors
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.store import Store, digest
from selectllm.store.tables import values_at

SHARD_ROWS: Final = 1024
"""Rows embedded and kept as one piece of work: some seconds' worth, which is what a crash can cost."""

PREFETCH: Final = 2
"""Shards given to each worker at a time: one to work on, one to go on with. More would only fill its memory."""


@dataclass(frozen=True)
class Shard:
    """Rows to embed, in plain values that can be sent to any process."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]


def gather(context: Context, table: pa.Table) -> tuple[Vectors, int]:
    """The rows' vectors, and how many of them this run had to embed."""
    embedder = models.open_embedder(context.settings.embedding.model)
    ids, cache = table["id"].to_pylist(), VectorCache(context.store, embedder_key(embedder))
    vectors, known = cache.gather(ids)
    missing = np.flatnonzero(~known)
    if len(missing) and not context.executor.is_remote:
        embedder.load()
    context.log.model_loaded.set()
    if len(missing):
        for shard in _embed_missing(context, table, missing):
            cache.hold(shard)
        new, is_kept = cache.gather([ids[row] for row in missing], added=True)
        _require_kept(is_kept)
        if not known.any():
            return new, len(missing)
        vectors[missing] = new
    return vectors, len(missing)


def gather_large(context: Context, table: pa.Table, vectors: OrderedVectors) -> int:
    """The same for a large pool; returns how many rows this run had to embed."""
    embedder = models.open_embedder(context.settings.embedding.model)
    lookup, cache = IdLookup(as_bytes(table["id"])), VectorCache(context.store, embedder_key(embedder))
    cache.gather_into(vectors, lookup)
    missing = np.flatnonzero(~vectors.known)
    if len(missing) and not context.executor.is_remote:
        embedder.load()
    context.log.model_loaded.set()
    if len(missing):
        for _ in _embed_missing(context, table, missing):
            pass  # they are read again: all of them at once are more than fit into memory
        cache.gather_into(vectors, lookup, added=True)
        _require_kept(vectors.known)
    return len(missing)


def _require_kept(is_kept: npt.NDArray[np.bool_]) -> None:
    """Raise StoreError for vectors that are not there: zeros would pass for a text that the model knows no word of."""
    if not is_kept.all():
        raise StoreError(f"{int((~is_kept).sum()):,} vectors that were just made are not in the store: run again")


def embed_shard(settings: RunSettings, item: WorkItem[Shard]) -> KeptShard:
    """Embed a shard in this process, and keep its vectors. Raises ContractError, and keeps none, if any is bad."""
    cancellation.raise_if_cancelled()
    shard = item.value
    embedder = models.open_embedder(settings.embedding.model)
    vectors = embedder.embed(shard.texts)
    quality.check_shard(vectors, pa.chunked_array([pa.array(shard.ids, pa.string())]))
    return VectorCache(Store(settings.store), embedder_key(embedder)).add(shard.ids, vectors)


def embed_elsewhere(settings: RunSettings, item: WorkItem[Shard]) -> int:
    """The same in a worker; returns how many rows there were, since vectors are read from the store where needed."""
    return len(embed_shard(settings, item).table)


def _embed_missing(context: Context, table: pa.Table, missing: Rows) -> Iterator[KeptShard]:
    """Embed the rows of a table that have these places, in ascending order; yields what this process has kept."""
    executor, done = context.executor, 0
    context.progress("embeddings", done, len(missing))
    shards, shares = _shards(table, missing), [1] * PREFETCH * executor.workers
    if executor.is_remote:
        for rows in executor.map(partial(embed_elsewhere, context.settings), shards, shares):
            done += rows
            context.progress("embeddings", done, len(missing))
        return
    for kept in executor.map(partial(embed_shard, context.settings), shards, shares):
        done += len(kept.table)
        context.progress("embeddings", done, len(missing))
        yield kept


def embedder_key(embedder: models.SentenceTransformerEmbedder) -> str:
    """A digest of what makes vectors: a model's weights, and how texts are given to them."""
    return digest("vectors", models.CODE_VERSION, embedder.digest)


def _shards(table: pa.Table, rows: Rows) -> Iterator[Shard]:
    """Some rows in shards; of a large pool, those of one part after the other: their texts are Python's own then."""
    for start in range(0, len(table), blocks.WHOLE_ROWS):
        low, high = np.searchsorted(rows, (start, start + blocks.WHOLE_ROWS))
        yield from _by_length(table.slice(start, blocks.WHOLE_ROWS), rows[low:high] - start)


def _by_length(table: pa.Table, rows: Rows) -> Iterator[Shard]:
    """The rows in shards, the longest first and like with like: batches of equal length save more than all else."""
    ids, instructions, inputs = (values_at(table[name], rows) for name in ("id", "instruction", "input"))
    texts = list(map(models.text, instructions, inputs))
    order = np.argsort([-len(text) for text in texts], kind="stable").tolist()
    for start in range(0, len(order), SHARD_ROWS):
        part = order[start : start + SHARD_ROWS]
        yield Shard(tuple(ids[row] for row in part), tuple(texts[row] for row in part))
