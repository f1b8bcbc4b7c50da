"""A model ranks the rows of small, diverse queries; tiers of rank fill the budget, or ratings from all its answers.

Source: "SelectLLM: Can LLMs Select Important Instructions to Annotate?" (arXiv 2401.16553), whose way tiers are. Where
the budget cuts a tier, the model itself puts the tier in order, by a tournament among its rows. Ratings also use what
the other ranks say, and further looks at rows near the cut: the paper has neither.
"""

from typing import Any

import pyarrow as pa

from selectllm.selection import cut, preferences_by_rating, preferences_by_tier, without
from selectllm.steps.build_queries import build_queries
from selectllm.steps.cache import StepResult
from selectllm.steps.look import gathers_ratings, look
from selectllm.steps.plan_ranking import plan_ranking
from selectllm.steps.prospect import Planned, Prospect
from selectllm.steps.rank import rank
from selectllm.steps.rate import rate
from selectllm.steps.run_tournament import run_tournament
from selectllm.steps.validate import validate
from selectllm.strategies.strategy import Choice, Strategy


class SelectLLM(Strategy):
    """By tiers: all the firsts of the queries, then all the seconds, and so on. By ratings: the best rated rows."""

    name = "selectllm"
    source = "Parkar et al., SelectLLM: Can LLMs Select Important Instructions to Annotate? (arXiv 2401.16553)"
    needs = frozenset({"embeddings", "model"})

    def plan(self, prospect: Prospect) -> Planned:
        """One question about each query, and about each row near the cut, or on the tier that the budget cuts."""
        return plan_ranking(prospect)

    def prepare(self, choice: Choice) -> dict[str, StepResult]:
        """Divide the pool into queries, have the model rank them, and have it settle what the budget cuts."""
        context, model = choice.context, choice.model
        assert model is not None  # it is among the needs
        pool, embeddings = choice.results["pool"], choice.results["embeddings"]
        excluded = choice.results.get("excluded")
        queries = context.run(build_queries, pool, embeddings)
        embeddings.release()
        rankings = context.run(rank, model, pool, queries, excluded)
        context.run(validate, rankings, queries)
        if gathers_ratings(context.settings, model.mode):
            evidence = {"queries": queries, "rankings": rankings}
            looks = context.run(look, model, evidence | {"pool": pool}, excluded)
            ratings = context.run(rate, evidence, looks, excluded)
            return {"queries": queries, "rankings": rankings, "ratings": ratings}
        tournament = context.run(run_tournament, model, pool, rankings, excluded)
        return {"rankings": rankings} | ({"tournament": tournament} if tournament else {})

    def settings(self, choice: Choice) -> dict[str, Any]:
        """The tier that the budget cuts decides which rows need an order among themselves; ratings order all rows."""
        if "ratings" in choice.own:
            return {}
        return {"cut_tier": self._cut_tier(choice)}

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all judged rows by rating, or all ranked rows by tier."""
        if "ratings" in choice.own:
            return preferences_by_rating(*(choice.table(kind) for kind in ("ratings", "queries", "rankings")))
        tournament = choice.table("tournament") if "tournament" in choice.own else None
        return preferences_by_tier(choice.table("rankings"), self._cut_tier(choice), tournament)

    def _cut_tier(self, choice: Choice) -> int | None:
        where = cut(without(choice.table("rankings"), choice.excluded)["rank"], choice.budget)
        return None if where.is_clean else where.tier
