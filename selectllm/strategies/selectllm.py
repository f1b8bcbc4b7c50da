"""The paper's way: a model ranks the rows of small, diverse queries, and tiers of rank fill the budget.

Source: "SelectLLM: Can LLMs Select Important Instructions to Annotate?" (arXiv 2401.16553). It differs from the paper
where a budget cuts a tier: there the model itself puts the tier in order, by a tournament among its rows.
"""

from typing import Any

import pyarrow as pa

from selectllm.selection import cut, preferences_by_tier, without
from selectllm.steps.build_queries import build_queries
from selectllm.steps.cache import StepResult
from selectllm.steps.rank import rank
from selectllm.steps.run_tournament import run_tournament
from selectllm.steps.validate import validate
from selectllm.strategies.strategy import Choice, Strategy


class SelectLLM(Strategy):
    """All the firsts of the queries, then all the seconds, and so on; the tier that the budget cuts by a tournament."""

    name = "selectllm"
    needs = frozenset({"embeddings", "model"})

    def prepare(self, choice: Choice) -> dict[str, StepResult]:
        """Divide the pool into queries, have the model rank them, and have it put the tier that is cut in order."""
        context, model = choice.context, choice.model
        assert model is not None  # it is among the needs
        pool, embeddings = choice.results["pool"], choice.results["embeddings"]
        excluded = choice.results.get("excluded")
        queries = context.run(build_queries, pool, embeddings)
        embeddings.release()
        rankings = context.run(rank, model, pool, queries, excluded)
        context.run(validate, rankings, queries)
        tournament = context.run(run_tournament, model, pool, rankings, excluded)
        return {"rankings": rankings} | ({"tournament": tournament} if tournament else {})

    def settings(self, choice: Choice) -> dict[str, Any]:
        """The tier that the budget cuts decides which rows need an order among themselves."""
        return {"cut_tier": self._cut_tier(choice)}

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all ranked rows by tier."""
        tournament = choice.table("tournament") if "tournament" in choice.own else None
        return preferences_by_tier(choice.table("rankings"), self._cut_tier(choice), tournament)

    def _cut_tier(self, choice: Choice) -> int | None:
        where = cut(without(choice.table("rankings"), choice.excluded)["rank"], choice.budget)
        return None if where.is_clean else where.tier
