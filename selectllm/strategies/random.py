"""Rows drawn at random: the floor that every other strategy has to beat."""

import pyarrow as pa

from selectllm.strategies.points import draws, preferences_of
from selectllm.strategies.strategy import Choice, Strategy


class Random(Strategy):
    """Draws rows by the seed; rows that come into the pool later do not change the order of those that were there."""

    name = "random"

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all rows by a number that the seed and the row's id draw."""
        ids = choice.pool["id"].to_pylist()
        return preferences_of([id for _, id in sorted(zip(draws(ids, choice.seed), ids, strict=True))], "random")
