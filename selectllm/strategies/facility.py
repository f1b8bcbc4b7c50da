"""Rows that together lie near all rows of the pool: those that stand for many others come first."""

from typing import Any, Final

import numpy as np
import pyarrow as pa

from selectllm.queries import Rows, Vectors
from selectllm.ranking.cover import BLOCK, COVERED, Numbers, blocks, growths, to_cover
from selectllm.ranking.lazy_greedy import LazyGreedy
from selectllm.strategies.points import points_of, preferences_of
from selectllm.strategies.strategy import Choice, Strategy

EXACT: Final = 20_000
"""Rows that may be picked, up to which the search is exact; beyond, each pick is the best of some that are drawn."""

LOSS: Final = 0.1
"""How much less the value may be than the exact search guarantees: 0.53 instead of 0.63 of the best, in expectation."""


class Facility(Strategy):
    """Picks the row that raises the mean cover most, again and again, by a lazy greedy search.

    The cover of a row is its highest cosine to a chosen row, and 0 where that is below 0; the source has any similarity
    that is not negative. This reaches at least 63 % of the best value. Excluded rows count as chosen, and like all rows
    they are to be covered. Where more than 20,000 rows may be picked, the search is stochastic (Mirzasoleiman et al.,
    Lazier Than Lazy Greedy): only then does the seed count. Of pools above 100,000 rows, 100,000 are to be covered.
    """

    name = "facility"
    source = "Nemhauser, Wolsey & Fisher, An Analysis of Approximations for Maximizing Submodular Set Functions, 1978; "
    source += "for choosing data: Wei, Iyer & Bilmes, Submodularity in Data Subset Selection and Active Learning, 2015"
    needs = frozenset({"embeddings"})
    is_greedy = True

    def settings(self, choice: Choice) -> dict[str, Any]:
        """The seed counts only where the search is stochastic."""
        return {"seed": choice.seed} if _is_large(choice) else {}

    def prefer(self, choice: Choice) -> pa.Table:
        """Name the wanted rows in the order of picking; the score is what a row adds to the mean cover."""
        points, picks, wanted = points_of(choice), [], choice.wanted
        covered = to_cover(points.vectors, COVERED)
        search = LazyGreedy(FacilityLocation(points.vectors, covered, points.taken), points.allowed)
        if not _is_large(choice):
            for done in search.measure_all():
                choice.context.progress("gains", done, len(points.allowed))
        found = search.stochastic_picks(wanted, LOSS, choice.seed) if _is_large(choice) else search.picks(wanted)
        for pick in found:
            picks.append(pick)
            choice.context.progress("preferences", len(picks), wanted)
        scores = [gain / len(covered) for _, gain in picks]
        return preferences_of([points.ids[row] for row, _ in picks], "cover", scores)


class FacilityLocation:
    """The sum of the cover of all rows to be covered, as an objective over rows.

    Parameters: `vectors` (M, d) of unit length, all that can be picked; `covered` (C, d), the rows to be covered;
    `taken`, the numbers of rows that count as chosen from the start.
    """

    def __init__(self, vectors: Vectors, covered: Vectors, taken: Rows) -> None:
        self._vectors, self._covered = vectors, covered
        self._cover = np.zeros(len(covered), dtype=np.float32)
        for block in blocks(len(taken)):
            for part in blocks(len(covered)):
                cosines = covered[part] @ vectors[taken[block]].T
                self._cover[part] = np.maximum(self._cover[part], cosines.max(axis=1))

    def gains(self, rows: Rows) -> Numbers:
        """What each of these rows would add to the sum."""
        candidates, sums = self._vectors[rows], np.zeros(len(rows))
        size = max(BLOCK, BLOCK * BLOCK // len(rows))
        ones = np.ones(size, dtype=np.float32)
        for part in blocks(len(self._covered), size):
            found = growths(self._covered[part], self._cover[part], candidates)
            sums += ones[: len(found)] @ found  # none is negative, so float32 loses nothing that counts, and is fast
        return sums

    def add(self, row: int) -> None:
        """Let a row cover others, too."""
        np.maximum(self._cover, self._covered @ self._vectors[row], out=self._cover)


def _is_large(choice: Choice) -> bool:
    return len(choice.allowed) > EXACT
