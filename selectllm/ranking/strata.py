"""Rows divided into strata, of each of which a certain number is chosen: those that come first in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selectllm.queries import Rows

NO_STRATUM: Final = -1
"""Marks a row that is of no stratum, and so is not chosen."""


@dataclass(frozen=True)
class Strata:
    """The stratum (M,) that each row is of, from 0, the best row first, and how many rows of each are wanted (S,)."""

    of: Rows
    wanted: Rows

    def is_among_first(self, times: int = 1) -> npt.NDArray[np.bool_]:
        """Whether each row is among the first of its stratum: as many as are wanted, or `times` as many."""
        order = np.argsort(self.of, kind="stable")
        sizes = np.unique(self.of, return_counts=True)[1]
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        place = np.empty(len(self.of), dtype=np.int64)
        place[order] = np.arange(len(self.of)) - starts
        most = np.append(times * self.wanted, 0)  # the last is for NO_STRATUM
        return place < most[self.of]

    def missing(self, chosen: Sequence[int] | Rows) -> Rows:
        """How many rows of each stratum (S,) are wanted beyond the chosen ones."""
        of_chosen = self.of[np.asarray(chosen, dtype=np.int64)]
        return self.wanted - np.bincount(of_chosen, minlength=len(self.wanted))

    def reordered(self, order: Rows) -> "Strata":
        """The strata of the same rows in another order."""
        return Strata(self.of[order], self.wanted)


class Room:
    """How many rows may still be chosen of each stratum; without strata any row may."""

    def __init__(self, strata: Strata | None, chosen: Sequence[int] = ()) -> None:
        self._strata = strata
        self._left = strata.missing(chosen) if strata else None

    def is_open(self, row: int) -> bool:
        """Whether a row's stratum is not full yet."""
        if self._strata is None or self._left is None:
            return True
        stratum = self._strata.of[row]
        return bool(stratum != NO_STRATUM and self._left[stratum] > 0)

    def take(self, row: int) -> None:
        """Count a row that was chosen."""
        if self._strata is not None and self._left is not None:
            self._left[self._strata.of[row]] -= 1


def proportional(rows: Sequence[int], total: int) -> list[int]:
    """Divide a total among strata in proportion to their rows, by largest remainder; of equal ones the first.

    No stratum gets more than its rows, if the total is no more than all rows.
    """
    count = sum(rows)
    shares = [total * size // count for size in rows]
    remainders = [total * size % count for size in rows]
    for place in sorted(range(len(rows)), key=lambda place: -remainders[place])[: total - sum(shares)]:
        shares[place] += 1
    return shares
