"""What is measured: a pool, what was chosen from it, and what is known of its rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.cancellation import raise_if_cancelled
from selectllm.errors import ContractError
from selectllm.queries import Rows, Vectors

Numbers = npt.NDArray[np.float64]

BLOCK: Final = 1024
"""Rows that are compared with others at a time: memory grows with rows, and not with rows times rows."""

DIGITS: Final = 6
"""Digits of a cosine that count: what the last bits say depends on the machine."""

LENGTH_TOLERANCE: Final = 1e-3
"""How far the length of a vector may be from 1."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A selection and the pool that it was chosen from.

    `pool` is as POOL, of M rows. `chosen` are the numbers, from 0, of the chosen rows in the pool, in the selection's
    order (see `chosen_rows`). The others may be None, and measures that need them are then missing: `vectors` (M, d),
    float32, of unit length, in the pool's order; `preferences` as PREFERENCES, by which the rows were chosen; `labels`
    (M,), what each row is worth by somebody's word, NaN where nobody says (see `labels_of`); `clusters` (M,), the
    cluster of each row (see `cluster_rows`), else they are computed. `seed` decides whatever is drawn.
    Raises ContractError where these do not fit together, and where nothing is chosen.
    """

    pool: pa.Table
    chosen: Rows
    vectors: Vectors | None = None
    preferences: pa.Table | None = None
    labels: Numbers | None = None
    clusters: Rows | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        rows = len(self.pool)
        if not len(self.chosen):
            raise ContractError("a selection without rows cannot be measured")
        if self.chosen.min() < 0 or self.chosen.max() >= rows or len(np.unique(self.chosen)) < len(self.chosen):
            raise ContractError(f"a selection names rows of a pool by different numbers from 0 to {rows - 1:,}")
        for name in ("vectors", "labels", "clusters"):
            value = getattr(self, name)
            if value is not None and len(value) != rows:
                raise ContractError(f"the pool has {rows:,} rows, and there are {name} of {len(value):,}")
        if self.vectors is not None:
            lengths = np.einsum("ij,ij->i", self.vectors, self.vectors)
            if not (np.abs(lengths - 1) <= 2 * LENGTH_TOLERANCE).all():
                raise ContractError("vectors are measured by their cosines, and must be finite and of unit length")

    @cached_property
    def chosen_vectors(self) -> Vectors:
        """The vectors (N, d) of the chosen rows, in the selection's order."""
        return self._vectors[self.chosen]

    @cached_property
    def cover(self) -> Numbers:
        """The highest cosine (M,) of each row of the pool to a chosen row; 1 for the chosen rows themselves."""
        cover = np.empty(len(self.pool))
        for part in blocks(len(self.pool)):
            cover[part] = (self._vectors[part] @ self.chosen_vectors.T).max(axis=1)
        cover = cover.round(DIGITS).clip(-1, 1)
        cover[self.chosen] = 1
        return cover

    @cached_property
    def lengths(self) -> Rows:
        """The characters (M,) of each row's instruction and input."""
        parts = (pc.fill_null(pc.utf8_length(self.pool[name]), 0).to_numpy() for name in ("instruction", "input"))
        lengths: Rows = np.sum(list(parts), axis=0, dtype=np.int64)
        return lengths

    @property
    def _vectors(self) -> Vectors:
        assert self.vectors is not None  # a measure that needs vectors is not asked without
        return self.vectors


def chosen_rows(pool: pa.Table, selection: pa.Table) -> Rows:
    """The numbers in POOL, from 0, of the rows of SELECTION, in its order; raises ContractError for a foreign id."""
    rows = pc.index_in(selection["id"], value_set=pool["id"].combine_chunks())
    if rows.null_count:
        foreign = selection["id"].filter(pc.is_null(rows))[0].as_py()
        raise ContractError(f"the selection has the row {foreign}, and the pool has not")
    found: Rows = rows.to_numpy().astype(np.int64)
    return found


def blocks(count: int) -> Iterator[slice]:
    """The parts of `count` rows that are compared with others at a time; raises Stopped in a run that is cancelled."""
    for first in range(0, count, BLOCK):
        raise_if_cancelled()
        yield slice(first, first + BLOCK)
