"""The shortest instructions first: the other end of `longest`, and a floor as well."""

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.selection import as_preferences
from selectllm.store.tables import in_order
from selectllm.strategies.strategy import Choice, Strategy


class Shortest(Strategy):
    """Orders rows by the characters of instruction and input together, the fewest first; equal lengths by id."""

    name = "shortest"
    source = "Parkar et al., SelectLLM (arXiv 2401.16553), whose rival it is; this measures characters of input, too"
    is_seeded = False

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all rows by length; the score is minus the number of characters."""
        pool = choice.pool
        lengths = pc.add(pc.utf8_length(pool["instruction"]), pc.fill_null(pc.utf8_length(pool["input"]), 0))
        scores = pc.negate(lengths.cast(pa.float64()))
        rows = pa.table({"id": pool["id"], "score": scores, "reason": ["length"] * len(pool)})
        return as_preferences(in_order(rows, ("score", "descending"), ("id", "ascending")))
