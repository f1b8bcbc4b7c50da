"""Passes over rows that say nearly the same as a row that was chosen before them."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from selectllm.queries import Rows, Vectors
from selectllm.ranking.strata import Room, Strata

Cosines = npt.NDArray[np.float64]

DIGITS: Final = 6
"""Digits of a cosine that count: what the last bits say depends on the machine."""

BLOCK: Final = 1024
"""Rows that are compared with the chosen ones at a time: one large product takes far less time than many small ones."""

CHOSEN_BLOCK: Final = 4096
"""Chosen rows that a block is compared with at a time, so that memory does not grow with the budget."""


@dataclass(frozen=True)
class PassedOver:
    """A row that was passed over, the chosen row that is nearest to it, and their cosine."""

    row: int
    near: int
    cosine: float


@dataclass(frozen=True)
class Picks:
    """Rows by their numbers: the chosen ones in the order of picking, and those that were passed over."""

    chosen: list[int] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)

    def numbered(self, rows: Rows) -> "Picks":
        """The same picks of rows that have other numbers."""
        passed_over = [PassedOver(int(rows[one.row]), int(rows[one.near]), one.cosine) for one in self.passed_over]
        return Picks([int(rows[row]) for row in self.chosen], passed_over)


def choose_distinct(
    vectors: Vectors,
    budget: int,
    limit: float,
    picks: Picks | None = None,
    start: int = 0,
    strata: Strata | None = None,
) -> Picks:
    """Choose rows in their order, and pass over each whose cosine to a row chosen before it is at least `limit`.

    Parameters: `vectors` (M, d) of unit length, the best row first; `budget`, how many rows to choose in all; `picks`,
    what is chosen already, to which this adds; `start`, the first row to look at; `strata`, which rows of a full
    stratum are not looked at. Of several chosen rows that are equally near, the one that was picked first is named.
    Fewer rows than the budget are chosen where no more are left.
    """
    picks = Picks() if picks is None else picks
    room = Room(strata, picks.chosen)
    for first in range(start, len(vectors), BLOCK):
        block = vectors[first : first + BLOCK]
        near, cosines = nearest_chosen(vectors, picks.chosen, block)
        within = rounded(block @ block.T)
        for place in range(len(block)):
            if len(picks.chosen) >= budget:
                return picks
            row = first + place
            if not room.is_open(row):
                continue
            if cosines[place] >= limit:
                picks.passed_over.append(PassedOver(row, int(near[place]), float(cosines[place])))
                continue
            picks.chosen.append(row)
            room.take(row)
            is_nearer = within[place] > cosines
            cosines[is_nearer], near[is_nearer] = within[place][is_nearer], row
    return picks


def nearest_chosen(vectors: Vectors, chosen: list[int], block: Vectors) -> tuple[Rows, Cosines]:
    """The number of the chosen row that is nearest to each of B vectors (B, d), and their cosine; -2 without any."""
    near, cosines = np.full(len(block), -1, dtype=np.int64), np.full(len(block), -2.0)
    for first in range(0, len(chosen), CHOSEN_BLOCK):
        rows = np.array(chosen[first : first + CHOSEN_BLOCK], dtype=np.int64)
        best, found = _first_highest(block @ vectors[rows].T)
        is_nearer = found > cosines
        cosines[is_nearer], near[is_nearer] = found[is_nearer], rows[best[is_nearer]]
    return near, cosines


def _first_highest(likeness: Vectors) -> tuple[Rows, Cosines]:
    """In each row the first place of the highest rounded number, and that; without rounding all of them."""
    every, digits = np.arange(len(likeness)), 10.0**-DIGITS
    highest = rounded(likeness[every, likeness.argmax(axis=1)])
    # What is rounded to it is half a digit below it at most; a whole digit leaves room for what a float32 is off.
    first = (likeness >= (highest - digits).astype(likeness.dtype)[:, None]).argmax(axis=1)
    for row in np.flatnonzero(rounded(likeness[every, first]) != highest):
        first[row] = rounded(likeness[row]).argmax()
    return first, highest


def rounded(cosines: Vectors) -> Cosines:
    """Cosines with the digits that count; in float64, where 0.95 is at least 0.95."""
    exact: Cosines = cosines.astype(np.float64).round(DIGITS)
    return exact
