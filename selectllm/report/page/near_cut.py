"""The rows on both sides of the cut, by their ratings: how sure it is that the right ones were chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from selectllm.report.page.pool_facts import is_in, texts_of
from selectllm.report.page.source import RunSource
from selectllm.report.page.texts import cut

SIDE_ROWS: Final = 30
"""Rows that are shown on each side of the cut."""

TEXT_LENGTH: Final = 160
"""Characters of each that are shown."""


@dataclass(frozen=True)
class RatedRow:
    """A row near the cut: its number in the pool, its rating and what is not known of that, and its answers."""

    number: int
    text: str
    rating: float
    spread: float
    answers: int
    chosen: bool


def near_cut(source: RunSource, chosen: pa.Array) -> list[RatedRow]:
    """The chosen rows of the lowest ratings, and the rows left out of the highest, best first.

    Rows that were not to be chosen, or that say nearly the same as a chosen one, are not among them. None where the run
    has no ratings.
    """
    if not source.has("ratings", "id", "rating", "spread", "answers"):
        return []
    ratings = source.table("ratings", "id", "rating", "spread", "answers")
    ids, values = ratings["id"].combine_chunks(), ratings["rating"].to_numpy()
    is_chosen = is_in(ids, chosen)
    is_open = ~is_chosen
    for kind in ("excluded", "near_duplicates"):
        if source.has(kind, "id"):
            is_open &= ~is_in(ids, source.table(kind, "id")["id"].combine_chunks())
    order = np.argsort(-values, kind="stable")
    rows = np.concatenate([order[is_chosen[order]][-SIDE_ROWS:], order[is_open[order]][:SIDE_ROWS]])
    rows = rows[np.argsort(-values[rows], kind="stable")]
    shown = ratings.take(pa.array(rows)).to_pylist()
    texts = texts_of(source, [row["id"] for row in shown])
    sides = is_chosen[rows].tolist()
    return [_rated(row, texts.get(row["id"]), side) for row, side in zip(shown, sides, strict=True)]


def _rated(row: Mapping[str, Any], found: tuple[int, str] | None, is_chosen: bool) -> RatedRow:
    number, text = found or (0, f"id {row['id']}")
    text = cut(" ".join(text.split()), TEXT_LENGTH)
    return RatedRow(number, text, row["rating"], row["spread"], row["answers"], is_chosen)
