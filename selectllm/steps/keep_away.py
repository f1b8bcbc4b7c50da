"""Which rows of the pool are too near to a test set: they are not chosen, so that tests stay tests."""

from typing import Final

import pyarrow as pa

from selectllm import cancellation
from selectllm.embedding.vector_cache import matrix
from selectllm.queries import Vectors
from selectllm.ranking.near_duplicates import BLOCK, nearest_chosen
from selectllm.schemas import TOO_NEAR
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.embed import made_by, vectors_of
from selectllm.steps.examples import Examples
from selectllm.store import digest

CODE_VERSION: Final = 1
"""Raise it when other rows are to be too near to the same tests."""


def keep_away(context: Context, pool: StepResult, embeddings: StepResult) -> StepResult:
    """Find the rows that stand in a test set, or have at least the cosine `away_above` to one of its rows."""
    store, above, tests = context.store, context.settings.aim.away_above, context.away_from
    inputs: dict[str, StepResult | str] = {"pool": pool, "tests": digest([test.digest for test in tests])}
    model = made_by(context, embeddings)
    entry = CacheEntry(store, "too_near", CODE_VERSION, inputs, {"model": model, "above": above})
    if result := entry.load():
        return result
    ids, vectors = pool.table(store)["id"].to_pylist(), matrix(embeddings.table(store))
    rows = [
        (id, number, test.place(near), cosine)
        for number, test in enumerate(tests)
        for id, near, cosine in _too_near(
            context, ids, vectors, test, vectors_of(context, test.table, embeddings, pool)
        )
    ]
    table = pa.Table.from_pylist([dict(zip(TOO_NEAR.names, row, strict=True)) for row in rows], schema=TOO_NEAR)
    facts = {
        "test_rows": sum(len(test.table) for test in tests),
        "unusable": sum(test.unusable for test in tests),
        "above": above,
        "too_near": len(set(table["id"].to_pylist())),
    }
    return entry.save(table, facts)


def reasons_of(context: Context, too_near: StepResult | None) -> dict[str, str]:
    """Of each row that is too near the reason, which names the first file that holds such a test, and the nearest."""
    rows = reversed(too_near.table(context.store).to_pylist()) if too_near else ()
    return {
        row["id"]: f"too near to {context.away_from[row['file']].location}, {row['place']} (cosine {row['cosine']:.2f})"
        for row in rows
    }


def _too_near(
    context: Context, ids: list[str], vectors: Vectors, test: Examples, tests: Vectors
) -> list[tuple[str, int, float]]:
    """The ids of rows that are too near to a row of a test set, with the number of the nearest and the cosine."""
    number_of = {id: number for number, id in enumerate(test.table["id"].to_pylist())}
    found = []
    for first in range(0, len(ids), BLOCK):
        cancellation.raise_if_cancelled()
        near, cosines = nearest_chosen(tests, list(range(len(tests))), vectors[first : first + BLOCK])
        for id, number, cosine in zip(ids[first : first + BLOCK], near.tolist(), cosines.tolist(), strict=True):
            if id in number_of:
                found.append((id, number_of[id], 1.0))
            elif cosine >= context.settings.aim.away_above:
                found.append((id, number, cosine))
    return found
