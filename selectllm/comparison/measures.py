"""The step that measures a cell's selection: a table of values, kept as an artifact of kind `measures`."""

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from selectllm.embedding.vector_cache import matrix
from selectllm.evaluation.measured import Measured, chosen_rows
from selectllm.evaluation.measures import (
    MEASURES,
    OTHERS,
    About,
    Value,
    as_values,
    cluster_rows,
    cost_of,
    labels_of,
    measure_all,
)
from selectllm.schemas import CLUSTERS, MEASURED
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context

CODE_VERSION: Final = 2
"""Raise it when the same selection is to be measured otherwise."""

SEED: Final = 0
"""Fixes what measures draw: all cells are measured alike, whatever their own seeds are."""

SHARED: Final = ("pool", "excluded", "embeddings", "clusters", "too_near", "targets", "strata")
"""The steps that all cells have in common: no strategy is charged for them."""

ABOUT: Final[Mapping[str, About]] = {
    value: about for about in (*MEASURES.values(), *OTHERS.values()) for value in about.values
}
"""What is known of each value, by the value's name."""


def cluster(context: Context, embeddings: StepResult) -> StepResult:
    """The cluster of each row of the pool, by which a selection's spread over the pool is measured."""
    entry = CacheEntry(context.store, "clusters", CODE_VERSION, {"embeddings": embeddings}, {"seed": SEED})
    if result := entry.load():
        return result
    table = embeddings.table(context.store)
    return entry.save(pa.table([table["id"], cluster_rows(matrix(table), SEED)], schema=CLUSTERS), {})


def measure(context: Context, results: Mapping[str, StepResult], labels: str | None) -> StepResult:
    """Measure a selection, by the results of the steps that led to it; MEASURED, with seconds where all was made now.

    Parameters: `results` by kind; `labels`, the column of the pool that holds them, if any.
    """
    store = context.store
    inputs = {kind: results[kind] for kind in ("pool", "embeddings", "clusters", "preferences", "selection")}
    entry = CacheEntry(store, "measures", CODE_VERSION, inputs, {"labels": labels, "seed": SEED})
    if result := entry.load():
        return result
    pool = results["pool"].table(store)
    measured = Measured(
        pool,
        chosen_rows(pool, results["selection"].table(store)),
        vectors=matrix(results["embeddings"].table(store)),
        preferences=results["preferences"].table(store),
        labels=None if labels is None else labels_of(pool, labels),
        clusters=results["clusters"].table(store)["cluster"].to_numpy(),
        seed=SEED,
    )
    seconds = [value for value in cost_values(context, results) if value.name == "seconds"]
    rows = [_row(value) for value in (*measure_all(measured), *seconds)]
    return entry.save(pa.Table.from_pylist(rows, schema=MEASURED), {"values": len(rows)})


def cost_values(context: Context, results: Mapping[str, StepResult]) -> list[Value]:
    """What a selection took, without the steps that all cells share."""
    own = {kind: result for kind, result in results.items() if kind not in SHARED}
    return as_values(OTHERS["cost"], cost_of(own, context.settings.ranking))


def _row(value: Value) -> dict[str, Any]:
    return {"measure": value.name, "value": value.value, "reason": value.reason}
