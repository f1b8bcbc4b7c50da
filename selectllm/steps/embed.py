"""The second step: every row becomes a vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm import blocks, cancellation, quality, schemas
from selectllm.embedding import models
from selectllm.embedding.ordered_vectors import IdLookup, OrderedVectors, as_bytes
from selectllm.embedding.vector_cache import KeptShard, VectorCache, table_of, tables_of
from selectllm.errors import StoreError, UsageError
from selectllm.execution import WorkItem
from selectllm.queries import Rows, Vectors
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.given_vectors import example_vectors, source_digest
from selectllm.steps.take_given import take_given
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


def embed(context: Context, pool: StepResult) -> StepResult:
    """Embed every row of the pool that no earlier run has embedded, shard by shard; or take the vectors given."""
    store, settings = context.store, context.settings
    if settings.embedding.given is not None:
        return take_given(context, pool, settings.embedding.given)
    embedder = models.open_embedder(settings.embedding.model)
    made_by = _made_by(embedder)
    entry = CacheEntry(store, "embeddings", models.CODE_VERSION, {"pool": pool}, {"model": made_by})
    if result := entry.load():
        return result
    table = pool.table(store)
    if len(table) > blocks.WHOLE_ROWS:
        return _embed_large(context, entry, table)
    vectors, embedded = _vectors(context, table)
    warned = quality.check_embeddings(vectors, table["id"])
    _refuse_unknown(settings, len(vectors), warned)
    facts = {"dimension": vectors.shape[1], "embedded": embedded, **warned}
    return entry.save(table_of(table["id"].combine_chunks(), vectors), facts)


def _embed_large(context: Context, entry: CacheEntry, table: pa.Table) -> StepResult:
    """The embeddings of a large pool, whose vectors lie in a file until they are checked and written."""
    ids = table["id"]
    with OrderedVectors(context.store.scratch, len(table)) as vectors:
        embedded = _gather_large(context, table, vectors)
        warned = quality.check_embedding_parts(vectors, ids)
        _refuse_unknown(context.settings, len(table), warned)
        facts = {"dimension": vectors.dimension, "embedded": embedded, **warned}
        return entry.save_parts(schemas.embeddings(vectors.dimension), tables_of(ids, vectors), facts)


def _refuse_unknown(settings: RunSettings, rows: int, warned: Mapping[str, int]) -> None:
    """Raise UsageError where the model knows no word of any row."""
    if warned.get(quality.UNKNOWN) == rows:
        raise UsageError(
            f"the embedding model {settings.embedding.model} knows no word of the pool's rows: "
            "name one for their language with --embedding-model"
        )


def vectors_of(
    context: Context, rows: pa.Table, embeddings: StepResult | None = None, pool: StepResult | None = None
) -> Vectors:
    """The vectors (M, d) of rows beside the pool, by the same model; those that no run has embedded are, and kept.

    Where vectors are given, those of these rows must be, too: in the same file, or in a column of the same name.
    Raises PoolError where given vectors have another length than the pool's `embeddings`, or may be those of its rows.
    """
    given = context.settings.embedding.given
    if given is None:
        return _vectors(context, rows)[0]
    beside = pool.table(context.store) if pool else None
    return example_vectors(given, rows, embeddings.facts["dimension"] if embeddings else None, beside)


def made_by(context: Context, embeddings: StepResult) -> str:
    """What decides the vectors of rows beside the pool, for keys: the model, or what the user gives."""
    model, given = str(embeddings.manifest.settings["model"]), context.settings.embedding.given
    return model if given is None else digest(model, source_digest(given))


def _vectors(context: Context, table: pa.Table) -> tuple[Vectors, int]:
    """The rows' vectors, and how many of them this run had to embed."""
    embedder = models.open_embedder(context.settings.embedding.model)
    ids, cache = table["id"].to_pylist(), VectorCache(context.store, _made_by(embedder))
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


def _gather_large(context: Context, table: pa.Table, vectors: OrderedVectors) -> int:
    """The same for a large pool; returns how many rows this run had to embed."""
    embedder = models.open_embedder(context.settings.embedding.model)
    lookup, cache = IdLookup(as_bytes(table["id"])), VectorCache(context.store, _made_by(embedder))
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
    return VectorCache(Store(settings.store), _made_by(embedder)).add(shard.ids, vectors)


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


def _made_by(embedder: models.SentenceTransformerEmbedder) -> str:
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
