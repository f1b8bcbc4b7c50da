"""What a model ranks well and what covers the pool, together."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.ranking.diversity import Aim, choose_diverse
from selectllm.selection import as_preferences, without
from selectllm.strategies.selectllm import SelectLLM
from selectllm.strategies.strategy import Choice

DIVERSITY: Final = 0.2
"""How much cover counts against quality, where --diversity does not say: the source's quality weighs 0.7 to 0.9."""


class QDIT(SelectLLM):
    """Names rows first that are picked greedily by rating and facility location together, then the others by rating.

    The source takes quality from a model that scores an instruction with its answer. Here it is the rating, or the
    tier, of the strategy selectllm, so nothing is asked that selectllm does not ask. With --diversity, the last choice
    weighs both by it, as with any other strategy; then the preferences are those of selectllm.
    """

    name = "qdit"
    source = "Bukharin and Zhao, Data Diversity Matters for Robust Instruction Tuning (QDIT, arXiv 2311.14736)"
    is_greedy = True

    def prefer(self, choice: Choice) -> pa.Table:
        """Name as many rows as the budget in the order in which they are picked, and then the others."""
        rows = super().prefer(choice)
        if choice.context.settings.diversity:
            return rows
        rows = without(rows, choice.excluded)
        places = pc.index_in(rows["id"], value_set=choice.pool["id"].combine_chunks()).to_numpy()
        scores = None if rows["score"].null_count else rows["score"].to_numpy()
        chosen = choose_diverse(choice.vectors[places], scores, Aim(DIVERSITY, choice.budget)).chosen
        order = [*chosen, *sorted(set(range(len(rows))) - set(chosen))]
        named = rows.take(pa.array(order, pa.int64())).drop_columns(["place", "reason"])
        reasons = ["quality and cover"] * len(chosen) + ["quality"] * (len(order) - len(chosen))
        return as_preferences(named.append_column("reason", pa.array(reasons, pa.string())))

    def settings(self, choice: Choice) -> dict[str, object]:
        """Besides what decides those of selectllm: how much cover counts here, and how many rows are picked."""
        own = 0 if choice.context.settings.diversity else DIVERSITY
        return super().settings(choice) | {"diversity": own, "budget": choice.budget}
