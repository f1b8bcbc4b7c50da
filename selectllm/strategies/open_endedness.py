"""The instructions that a model answers in the most different ways."""

import pyarrow as pa

from selectllm.ranking.open_endedness import SAMPLES, SampleQuestion
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.plan_rows import check_words, plan_rows
from selectllm.steps.prospect import Planned, Prospect
from selectllm.steps.sample_answers import DIMENSION, sample_answers
from selectllm.strategies.row_scores import best_first, scores_by_row
from selectllm.strategies.strategy import Choice, Strategy


class OpenEndedness(Strategy):
    """Orders rows by the distinct pairs of neighbouring words in three answers of the model; equal counts by id.

    A baseline of the source, which does not say how long an answer may be, or how it is drawn. Here it has at most 128
    tokens, its first 80 words count, and it is drawn at temperature 1, by the run's seed. Servers that take no
    temperature or no seed draw as they do. A row that lacks one of its answers is not among the preferences.
    """

    name = "open-endedness"
    source = "Parkar et al., SelectLLM: Can LLMs Select Important Instructions to Annotate? (arXiv 2401.16553)"
    needs = frozenset({"model"})

    def check(self, settings: RunSettings) -> None:
        """Refuse selectors that have no words."""
        check_words(self.name, settings)

    def plan(self, prospect: Prospect) -> Planned:
        """Three questions about each row that may be chosen."""
        rows = [candidate for candidate in prospect.candidates if candidate.id not in prospect.excluded]
        seed, numbers = prospect.settings.seed, range(1, SAMPLES + 1)
        questions = [SampleQuestion(row, number, seed, prospect.think) for row in rows for number in numbers]
        return plan_rows(prospect, questions, [f"answer {number}" for number in numbers])

    def prepare(self, choice: Choice) -> dict[str, StepResult]:
        """Have the model answer all rows."""
        assert choice.model is not None  # it is among the needs
        pool, excluded = choice.results["pool"], choice.results.get("excluded")
        return {"row_ratings": choice.context.run(sample_answers, choice.model, pool, excluded)}

    def prefer(self, choice: Choice) -> pa.Table:
        """Order the rows with all answers by their counts."""
        return best_first(scores_by_row(choice.table("row_ratings"), [DIMENSION]), DIMENSION)
