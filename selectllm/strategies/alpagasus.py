"""The rows that a model rates best, one by one."""

import pyarrow as pa

from selectllm.ranking.row_ratings import WORTH
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.plan_rows import check_words, plan_ratings
from selectllm.steps.prospect import Planned, Prospect
from selectllm.steps.rate_rows import rate_rows
from selectllm.strategies.row_scores import best_first, scores_by_row
from selectllm.strategies.strategy import Choice, Strategy


class AlpaGasus(Strategy):
    """Orders rows by a rating from 0 to 5 that the model gives each; of equal ratings the lower id is first.

    The source rates an instruction together with its answer, on accuracy, by ChatGPT, and keeps all ratings from 4.5
    on. Here no answer is known, so the instruction alone is rated, on its worth or by the user's criteria, and the N
    best are kept. A model that is asked pointwise gives the expected rating by its log-probabilities.
    """

    name = "alpagasus"
    source = "Chen et al., AlpaGasus: Training a Better Alpaca with Fewer Data (arXiv 2307.08701)"
    needs = frozenset({"model"})
    is_seeded = False

    def check(self, settings: RunSettings) -> None:
        """Refuse selectors that have no words."""
        check_words(self.name, settings)

    def plan(self, prospect: Prospect) -> Planned:
        """One question about each row that may be chosen."""
        return plan_ratings(prospect, [WORTH])

    def prepare(self, choice: Choice) -> dict[str, StepResult]:
        """Have the model rate all rows."""
        assert choice.model is not None  # it is among the needs
        pool, excluded = choice.results["pool"], choice.results.get("excluded")
        return {"row_ratings": choice.context.run(rate_rows, choice.model, pool, excluded, [WORTH])}

    def prefer(self, choice: Choice) -> pa.Table:
        """Order the rows with a rating by it."""
        return best_first(scores_by_row(choice.table("row_ratings"), [WORTH.name]), "model rating")
