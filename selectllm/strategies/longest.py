"""The longest instructions first: a rule that is hard to beat, and easily gamed."""

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.selection import as_preferences
from selectllm.store.tables import in_order
from selectllm.strategies.strategy import Choice, Strategy


class Longest(Strategy):
    """Orders rows by the characters of instruction and input together; equal lengths by id."""

    name = "longest"
    source = "Zhao et al., Long Is More for Alignment (arXiv 2402.04833), which measures answers; this, instructions"
    is_seeded = False

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all rows by length; the score is the number of characters."""
        pool = choice.pool
        lengths = pc.add(pc.utf8_length(pool["instruction"]), pc.fill_null(pc.utf8_length(pool["input"]), 0))
        rows = pa.table({"id": pool["id"], "score": lengths.cast(pa.float64())})
        rows = in_order(rows, ("score", "descending"), ("id", "ascending"))
        return as_preferences(rows.append_column("reason", pa.array(["length"] * len(rows))))
