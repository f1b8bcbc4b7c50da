"""A pool's rows as points in the order of their ids, so that the order of the file decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from selectllm.queries import Rows, Vectors
from selectllm.selection import as_preferences
from selectllm.strategies.strategy import Choice


@dataclass(frozen=True)
class Points:
    """All rows of a pool by their numbers in the order of ids, from 0.

    `vectors` (M, d) float32; `allowed` may be named; `taken` are the excluded rows, mostly chosen by earlier runs.
    """

    ids: tuple[str, ...]
    vectors: Vectors
    allowed: Rows
    taken: Rows


def points_of(choice: Choice) -> Points:
    """The points of a pool that was embedded."""
    ids = choice.pool["id"].to_pylist()
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    is_allowed = np.zeros(len(ids), dtype=bool)
    is_allowed[choice.allowed] = True
    is_allowed = is_allowed[order]
    in_order = tuple(ids[row] for row in order)
    return Points(in_order, choice.vectors[order], np.flatnonzero(is_allowed), np.flatnonzero(~is_allowed))


def draws(ids: Sequence[str], seed: int) -> list[float]:
    """A number from 0 to 1 for each id, which the seed and the id alone decide: rows that come later change none."""
    return [float(np.random.default_rng([seed, int(id, 16)]).random()) for id in ids]


def preferences_of(ids: Sequence[str], reason: str, scores: Sequence[float | None] | None = None) -> pa.Table:
    """Ids, the best row first, as PREFERENCES with one reason for all."""
    columns = {"id": pa.array(ids, pa.string()), "reason": pa.array([reason] * len(ids), pa.string())}
    if scores is not None:
        columns["score"] = pa.array(scores, pa.float64())
    return as_preferences(pa.table(columns))
