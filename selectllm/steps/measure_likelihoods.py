"""For the perplexity strategies: how probable each row's text is to a causal model."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from selectllm import cancellation
from selectllm.embedding.models import text
from selectllm.embedding.vector_cache import VectorCache
from selectllm.errors import ContractError
from selectllm.execution import WorkItem
from selectllm.llm import likelihood
from selectllm.llm.likelihood import LikelihoodModel, open_likelihood
from selectllm.queries import Rows
from selectllm.schemas import LIKELIHOODS
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.store import Store, digest

SHARD_ROWS: Final = 64
"""Rows read and kept as one piece of work: what a crash can cost."""


@dataclass(frozen=True)
class Texts:
    """Rows to read, in plain values that can be sent to any process."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]


def measure_likelihoods(context: Context, pool: StepResult) -> StepResult:
    """The mean log-probability of every row's text, piece by piece; LIKELIHOODS. What is kept is not read again.

    Raises UsageError where the selector names no weights that can be read, MissingDependency.
    """
    store, settings = context.store, context.settings
    model = open_likelihood(settings.selector)
    made_by = _made_by(model)
    entry = CacheEntry(store, "likelihoods", likelihood.CODE_VERSION, {"pool": pool}, {"weights": made_by})
    if result := entry.load():
        return result
    table, cache = pool.table(store), VectorCache(store, made_by)
    ids = table["id"].to_pylist()
    _, known = cache.gather(ids)
    missing = np.flatnonzero(~known)
    if len(missing):
        _measure_missing(context, table, missing)
    found, known = cache.gather(ids)
    if not known.all() or not np.isfinite(found).all():
        raise ContractError(f"{(~known).sum():,} rows have no log-probability, or it is no number: run again")
    numbers = found.astype(np.float64)
    columns = [ids, numbers[:, 0].round(likelihood.DIGITS), *(numbers[:, place].astype(int) for place in (1, 2))]
    likelihoods = pa.table(columns, schema=LIKELIHOODS)
    truncated = int((found[:, 1] > found[:, 2]).sum())
    facts = {"model": model.name, "rows": len(ids), "measured": len(missing), "truncated": truncated}
    return entry.save(likelihoods, facts)


def measure_shard(settings: RunSettings, item: WorkItem[Texts]) -> int:
    """Read some rows, and keep what comes out; returns how many."""
    cancellation.raise_if_cancelled()
    model, shard = open_likelihood(settings.selector), item.value
    VectorCache(Store(settings.store), _made_by(model)).add(shard.ids, model.measure(shard.texts))
    return len(shard.ids)


def _measure_missing(context: Context, table: pa.Table, missing: Rows) -> None:
    executor, done = context.executor, 0
    context.progress("likelihoods", done, len(missing))
    for rows in executor.map(partial(measure_shard, context.settings), _shards(table, missing), [1] * executor.workers):
        done += rows
        context.progress("likelihoods", done, len(missing))


def _made_by(model: LikelihoodModel) -> str:
    """A digest of what makes log-probabilities: a model's weights, and how texts are given to them."""
    return digest("likelihoods", likelihood.CODE_VERSION, model.digest)


def _shards(table: pa.Table, rows: Rows) -> Iterator[Texts]:
    """The rows in shards, the longest first and like with like: rows of a batch are filled up to the longest."""
    texts = list(map(text, table["instruction"].to_pylist(), table["input"].to_pylist()))
    order = sorted(rows, key=lambda row: -len(texts[row]))
    for start in range(0, len(order), SHARD_ROWS):
        part = order[start : start + SHARD_ROWS]
        yield Texts(tuple(table["id"].take(pa.array(part)).to_pylist()), tuple(texts[row] for row in part))
