"""The sixth step, where ratings gather the rows: each is rated from all answers about it."""

from typing import Final

import pyarrow as pa

from selectllm.ranking.looks import DOUBT
from selectllm.ranking.ratings import NOISE, best, chances_of_error
from selectllm.schemas import RATINGS
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.evidence import Evidence
from selectllm.steps.exclude import excluded_ids

CODE_VERSION: Final = 1
"""Raise it when the same answers are to give other ratings."""


def rate(
    context: Context, evidence: dict[str, StepResult], looks: StepResult | None, excluded: StepResult | None
) -> StepResult:
    """Rate every row, and count how many of the rows that the budget takes are expected to be the wrong ones.

    Parameters: `evidence`, the results of the steps `queries` and `rankings`.
    """
    store, settings = context.store, context.settings
    inputs = dict(evidence) | ({"looks": looks} if looks else {}) | ({"excluded": excluded} if excluded else {})
    entry = CacheEntry(store, "ratings", CODE_VERSION, inputs, {"budget": settings.budget, "noise": NOISE})
    if result := entry.load():
        return result
    known = Evidence.of(store, evidence["queries"], evidence["rankings"], looks)
    rated = known.rated()
    rounds = pa.array(known.rounds, pa.int32())
    table = pa.table([known.ids, rated.ratings, rated.spreads, rated.answers, rounds, known.replies], schema=RATINGS)
    barred = excluded_ids(context, excluded) | known.refused
    open_rows = rated.of(known.open_rows(barred))
    errors = chances_of_error(open_rows, settings.budget)
    facts = {
        "rated": int((rated.answers > 0).sum()),
        "in_doubt": int((errors > DOUBT).sum()),
        "expected_wrong": round(float(errors[best(open_rows, settings.budget)].sum()), 1),
    }
    return entry.save(table, facts)
