"""Rows that are far from the chosen ones, where distances count more in dense regions."""

from typing import Final

import numpy as np
import pyarrow as pa

from selectllm.cancellation import raise_if_cancelled
from selectllm.ranking.cover import COVERED, blocks, to_cover
from selectllm.ranking.novelty import Novelty, weights
from selectllm.strategies.points import Points, draws, points_of, preferences_of
from selectllm.strategies.strategy import Choice, Strategy

DIGITS: Final = 4
"""Digits of a novelty that count, of which the last bits are noise: of equally novel rows the first is picked."""


class NovelSelect(Strategy):
    """Picks the row of the highest novelty, again and again: its summand of the diversity measure NovelSum.

    The formula, its values and how the source's program differs are in ranking/novelty.py; the measure `novelsum` is by
    the same formula. Beyond 128 chosen rows the far ones count by their mean. The first row is drawn by the seed.
    Excluded rows count as chosen; the source knows none. The density in a pool above 100,000 rows is measured against
    100,000 of them, evenly spread over the ids.
    """

    name = "novelselect"
    source = "Yang et al., Measuring Data Diversity for Instruction Tuning (arXiv 2502.17184)"
    needs = frozenset({"embeddings"})
    is_greedy = True

    def prefer(self, choice: Choice) -> pa.Table:
        """Name the wanted rows in the order of picking; the score is a row's novelty when it was picked."""
        points = points_of(choice)
        novelty = self._beside_taken(choice, points)
        is_left = np.zeros(len(points.ids), dtype=bool)
        is_left[points.allowed] = True
        picks: list[int] = []
        scores: list[float | None] = []
        while len(picks) < choice.wanted:
            raise_if_cancelled()
            if picks or len(points.taken):
                values = novelty.values()
                row = int(np.where(is_left, values.round(DIGITS), -np.inf).argmax())
                scores.append(float(values[row]))
            else:
                row = int(points.allowed[np.argmin(draws([points.ids[row] for row in points.allowed], choice.seed))])
                scores.append(None)
            is_left[row] = False
            picks.append(row)
            novelty.add(row)
            choice.context.progress("preferences", len(picks), choice.wanted)
        return preferences_of([points.ids[row] for row in picks], "novelty", scores)

    def _beside_taken(self, choice: Choice, points: Points) -> Novelty:
        """The novelty of all rows beside the excluded ones."""
        found = np.empty(len(points.ids), dtype=np.float32)
        reference = to_cover(points.vectors, COVERED)
        for block in blocks(len(found)):
            raise_if_cancelled()
            found[block] = weights(points.vectors[block], reference)
            choice.context.progress("densities", min(block.stop, len(found)), len(found))
        novelty = Novelty(points.vectors, found)
        for row in points.taken:
            raise_if_cancelled()
            novelty.add(int(row))
        return novelty
