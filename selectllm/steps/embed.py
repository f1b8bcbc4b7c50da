"""The second step: every row becomes a vector."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from selectllm import cancellation
from selectllm.embedding import models
from selectllm.embedding.vector_cache import VectorCache, table_of
from selectllm.quality import checks
from selectllm.queries import Rows
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, Progress, StepResult, quiet
from selectllm.store import Store, digest

SHARD_ROWS: Final = 1024
"""Rows embedded and kept as one piece of work: some seconds' worth, which is what a crash can cost."""


@dataclass(frozen=True)
class Shard:
    """Rows to embed, in plain values that can be sent to any process."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]


EmbedAll = Callable[[Iterable[Shard]], Iterable[int]]
"""Has shards embedded, in whatever way the caller runs things; gives the rows of each one that is done."""


def embed(
    store: Store, run: RunSettings, pool: StepResult, tell: Progress = quiet, embed_all: EmbedAll | None = None
) -> StepResult:
    """Embed every row of the pool that no earlier run has embedded; `embed_all` does so, by default one by one."""
    embedder = models.open_embedder(run.embedding.model)
    made_by = _made_by(embedder)
    slot = CacheEntry(store, run, "embeddings", models.CODE_VERSION, {"pool": pool}, {"model": made_by})
    if made := slot.found():
        return made
    table = store.read(pool.artifact)
    kept = VectorCache(store, made_by)
    vectors, known = kept.gather(table["id"].to_pylist())
    missing = np.flatnonzero(~known)
    if len(missing):
        tell("embeddings", 0, len(missing))
        done = 0
        for rows in embed_all(_shards(table, missing)) if embed_all else _one_by_one(run, _shards(table, missing)):
            done += rows
            tell("embeddings", done, len(missing))
        vectors, _ = kept.gather(table["id"].to_pylist())
    checks.check_embeddings(vectors, table)
    found = table_of(table["id"].combine_chunks(), vectors)
    return slot.keep(found, {"dimension": vectors.shape[1], "embedded": len(missing)})


def embed_shard(run: RunSettings, shard: Shard) -> int:
    """Embed the rows of a shard and keep their vectors; returns how many they are.

    Raises ContractError for vectors that no reader could use, before they are kept: kept, they would be found by every
    run to come.
    """
    cancellation.raise_if_cancelled()
    embedder = models.open_embedder(run.embedding.model)
    vectors = embedder.embed(shard.texts)
    checks.check_embeddings(vectors, pa.table({"id": pa.array(shard.ids, pa.string())}))
    VectorCache(Store(run.store), _made_by(embedder)).add(shard.ids, vectors)
    return len(shard.ids)


def _made_by(embedder: models.Embedder) -> str:
    """What makes vectors: a model's weights, and the way in which texts are given to them."""
    return digest("vectors", models.CODE_VERSION, embedder.digest)


def _one_by_one(run: RunSettings, shards: Iterable[Shard]) -> Iterator[int]:
    return (embed_shard(run, shard) for shard in shards)


def _shards(table: pa.Table, rows: Rows) -> Iterator[Shard]:
    """The rows in shards, the longest first and like with like: batches of equal length save more than all else."""
    texts = list(map(models.text, table["instruction"].to_pylist(), table["input"].to_pylist()))
    order = sorted(rows, key=lambda row: -len(texts[row]))
    for start in range(0, len(order), SHARD_ROWS):
        part = order[start : start + SHARD_ROWS]
        yield Shard(tuple(table["id"].take(pa.array(part)).to_pylist()), tuple(texts[row] for row in part))
