"""What of the preferences is chosen where rows must not say the same: by diversity, and without near-duplicates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.embedding.vector_cache import matrix
from selectllm.errors import TooFewRanked
from selectllm.queries import Vectors
from selectllm.ranking.diversity import Aim, choose_diverse
from selectllm.ranking.near_duplicates import Picks, choose_distinct
from selectllm.ranking.strata import Strata
from selectllm.schemas import NEAR_DUPLICATES
from selectllm.settings import RunSettings


@dataclass(frozen=True)
class Spread:
    """The chosen rows as PREFERENCES, in the order of these, and what was passed over, as NEAR_DUPLICATES."""

    chosen: pa.Table
    near_duplicates: pa.Table


def spread_settings(settings: RunSettings) -> dict[str, Any]:
    """The settings that ask for rows which do not say the same; empty where the first N are chosen as they come."""
    diversity = {"diversity": settings.diversity} if settings.diversity else {}
    near_duplicate = {} if settings.near_duplicate is None else {"near_duplicate": settings.near_duplicate}
    return diversity | near_duplicate


def spread(preferences: pa.Table, embeddings: pa.Table, settings: RunSettings, strata: Strata | None = None) -> Spread:
    """Choose as many PREFERENCES, in their order, as the budget, by this order and by the vectors of EMBEDDINGS.

    Parameters: `strata`, those of the preferences: rows of a full one are neither chosen nor passed over.
    Raises TooFewRanked when too few rows are left, unless strata are too: this is known only once rows are ranked.
    """
    rows = pc.index_in(preferences["id"], value_set=embeddings["id"].combine_chunks())
    vectors = matrix(embeddings)[rows.to_numpy()]
    picks = _picks(preferences, vectors, settings, strata)
    if len(picks.chosen) < settings.budget and strata is None:
        raise TooFewRanked(
            f"{len(picks.chosen):,} rows are left, and the budget is {settings.budget:,}: the other "
            f"{len(picks.passed_over):,} rows that may be chosen have a cosine of at least "
            f"{settings.near_duplicate:g} to a chosen row, and were passed over. All replies are kept. Raise "
            "--near-duplicate, choose fewer rows, or, with tiers, rank more rows by a larger --depth"
        )
    # In the order of the preferences: `order` of a selection says how good a row is, not when it was picked.
    return Spread(preferences.take(pa.array(np.sort(picks.chosen))), _near_duplicates(preferences, picks))


def _picks(preferences: pa.Table, vectors: Vectors, settings: RunSettings, strata: Strata | None) -> Picks:
    limit = settings.near_duplicate
    if limit is not None and not settings.diversity:
        return choose_distinct(vectors, settings.budget, limit, strata=strata)
    scores = preferences["score"]
    numbers = None if scores.null_count else scores.to_numpy()
    return choose_diverse(vectors, numbers, Aim(settings.diversity, settings.budget, strata), limit)


def _near_duplicates(preferences: pa.Table, picks: Picks) -> pa.Table:
    passed = sorted(picks.passed_over, key=lambda row: row.row)
    rows, near = ([getattr(row, name) for row in passed] for name in ("row", "near"))
    taken = preferences.take(pa.array(rows, pa.int64()))
    columns = {
        "place": taken["place"],
        "id": taken["id"],
        "near": preferences["id"].take(pa.array(near, pa.int64())),
        "cosine": pa.array([row.cosine for row in passed], pa.float64()),
    }
    return pa.table(columns).cast(NEAR_DUPLICATES)
