"""Rows that a model rates complex and good, of which none is like one before it."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import TooFewRanked
from selectllm.ranking.near_duplicates import choose_distinct
from selectllm.ranking.row_ratings import COMPLEXITY, QUALITY
from selectllm.selection import without
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.plan_rows import check_words, plan_ratings
from selectllm.steps.prospect import Planned, Prospect
from selectllm.steps.rate_rows import rate_rows
from selectllm.strategies.row_scores import best_first, scores_by_row
from selectllm.strategies.strategy import Choice, Strategy

MOST_ALIKE: Final = 0.9
"""The highest cosine to a row that is named already; what is above is passed over."""

REASON: Final = "complexity times quality"

_FROM: Final = float(np.nextafter(MOST_ALIKE, 1))


class Deita(Strategy):
    """Names rows by complexity times quality, the highest first, and none whose cosine to a named one is above 0.9.

    The source trains raters of its own, and rates quality on an instruction together with its answer. Here the run's
    model rates the instruction on both, each from 1 to 6, since no answer is known; the user's criteria, if there are
    any, take the place of quality. The source's 0.9 is for its own vectors; here they are the run's. Equal products are
    ordered by id.
    """

    name = "deita"
    source = "Liu et al., What Makes Good Data for Alignment? (Deita, arXiv 2312.15685)"
    needs = frozenset({"embeddings", "model"})
    is_seeded = False
    is_greedy = True

    def check(self, settings: RunSettings) -> None:
        """Refuse selectors that have no words."""
        check_words(self.name, settings)

    def plan(self, prospect: Prospect) -> Planned:
        """Two questions about each row that may be chosen."""
        return plan_ratings(prospect, [COMPLEXITY, QUALITY])

    def prepare(self, choice: Choice) -> dict[str, StepResult]:
        """Have the model rate all rows on both dimensions."""
        assert choice.model is not None  # it is among the needs
        pool, excluded = choice.results["pool"], choice.results.get("excluded")
        ratings = choice.context.run(rate_rows, choice.model, pool, excluded, [COMPLEXITY, QUALITY])
        return {"row_ratings": ratings}

    def prefer(self, choice: Choice) -> pa.Table:
        """Name rows by product, unlike one another; raises TooFewRanked when these are fewer than the budget."""
        rated = scores_by_row(choice.table("row_ratings"), [COMPLEXITY.name, QUALITY.name])
        rows = best_first(without(rated, choice.excluded), REASON)
        places = pc.index_in(rows["id"], value_set=choice.pool["id"].combine_chunks()).to_numpy()
        picks = choose_distinct(choice.vectors[places], choice.wanted, _FROM)
        if len(picks.chosen) < choice.budget:
            raise TooFewRanked(
                f"the strategy {self.name} is left with {len(picks.chosen):,} rows, and the budget is "
                f"{choice.budget:,}: the other {len(picks.passed_over):,} of the {len(rows):,} rated rows have a "
                f"cosine above {MOST_ALIKE:g} to one of these. All replies are kept. Choose fewer rows"
            )
        return best_first(
            rows.take(pa.array(picks.chosen)).drop_columns(["place", "reason"]), "complexity times quality"
        )
