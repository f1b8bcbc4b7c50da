"""Rows drawn at random: the floor that every other strategy has to beat."""

import numpy as np
import pyarrow as pa

from selectllm.selection import as_preferences
from selectllm.strategies.strategy import Choice, Strategy


class Random(Strategy):
    """Draws rows by the seed; rows that come into the pool later do not change the order of those that were there."""

    name = "random"

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all rows by a number that the seed and the row's id draw."""
        ids = choice.pool["id"].to_pylist()
        drawn = [np.random.default_rng([choice.seed, int(id, 16)]).random() for id in ids]
        order = sorted(range(len(ids)), key=lambda row: (drawn[row], ids[row]))
        rows = pa.table({"id": [ids[row] for row in order], "reason": ["random"] * len(ids)})
        return as_preferences(rows)
