"""Where examples say what to choose: a shortlist of the pool, near to them, out of which the strategy chooses."""

import logging
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm import quality
from selectllm.embedding.vector_cache import matrix
from selectllm.ranking.targets import NEAREST, deal, nearness
from selectllm.schemas import TARGETS
from selectllm.settings import RunSettings
from selectllm.steps import read_pool
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.embed import made_by, vectors_of
from selectllm.steps.exclude import excluded_ids

CODE_VERSION: Final = 1
"""Raise it when other rows are to be near to the same examples."""

log = logging.getLogger(__name__)


def find_targets(context: Context, pool: StepResult, embeddings: StepResult, excluded: StepResult | None) -> StepResult:
    """Compare the rows that may be chosen with the examples, and deal as many as the shortlist holds to these."""
    store, examples = context.store, context.target
    assert examples is not None  # else there is nothing to compare with
    table = pool.table(store)
    ids = excluded_ids(context, excluded)
    allowed = np.array([row for row, id in enumerate(table["id"].to_pylist()) if id not in ids], dtype=np.int64)
    count = shortlist_rows(context.settings, len(allowed))
    inputs: dict[str, StepResult | str] = {"pool": pool, "examples": examples.digest}
    inputs |= {"excluded": excluded} if excluded else {}
    model = made_by(context, embeddings)
    entry = CacheEntry(store, "targets", CODE_VERSION, inputs, {"model": model, "rows": count})
    if result := entry.load():
        return result
    if len(examples.table) > count:
        log.warning(
            "the shortlist has %d rows, and %s has %d examples: the last of these get none. Raise --target-rows",
            *(count, examples.location, len(examples.table)),
        )
    wanted, vectors = vectors_of(context, examples.table, embeddings, pool), matrix(embeddings.table(store))[allowed]
    near = nearness(vectors, wanted)
    allowed_ids = table["id"].take(pa.array(allowed)).to_numpy(zero_copy_only=False).astype(str)
    order = np.lexsort((allowed_ids, -near.scores))  # of equally near rows the one with the better score, then by id
    dealt = deal(vectors[order], wanted, count)
    places, of_example, cosines = np.zeros(len(order), dtype=np.int64), near.examples[order], near.cosines[order]
    places[dealt.rows] = range(1, count + 1)
    of_example[dealt.rows], cosines[dealt.rows] = dealt.examples, dealt.cosines
    by_place = [*dealt.rows, *np.flatnonzero(places == 0)]
    columns = {
        "id": allowed_ids[order][by_place],
        "place": pa.array(places[by_place], mask=places[by_place] == 0),
        "example": examples.table["row"].take(pa.array(of_example[by_place])),
        "cosine": cosines[by_place],
        "score": near.scores[order][by_place],
    }
    facts = {"examples": len(examples.table), "unusable": examples.unusable, "nearest": NEAREST, "shortlisted": count}
    return entry.save(pa.table(columns).cast(TARGETS), facts)


def shortlist(context: Context, pool: StepResult, targets: StepResult) -> StepResult:
    """The pool's rows that are on the shortlist, in the pool's order: a pool of its own, whose facts are the pool's."""
    store = context.store
    inputs: dict[str, StepResult | str] = {"pool": pool, "targets": targets, "file": pool.manifest.made_from["file"]}
    entry = CacheEntry(store, "pool", read_pool.CODE_VERSION, inputs, {})
    if result := entry.load():
        return result
    table, dealt = pool.table(store), targets.table(store)
    ids = dealt["id"].filter(pc.is_valid(dealt["place"]))
    rows = table.filter(pc.is_in(table["id"], value_set=ids.combine_chunks()))
    quality.check_pool_table(rows)
    return entry.save(rows, pool.facts | {"shortlisted": len(rows)})


def shortlist_rows(settings: RunSettings, allowed: int) -> int:
    """How many rows a shortlist has, of so many that may be chosen."""
    return min(settings.aim.target_rows or TIMES * settings.budget, allowed)


TIMES: Final = 10
"""Rows of a shortlist for each row of the budget, where the settings do not say how many."""
