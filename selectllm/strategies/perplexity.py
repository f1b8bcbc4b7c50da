"""Rows by how probable their text is to a causal model: the expected ones, those in the middle, the unexpected."""

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.llm.likelihood import check_selector
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.measure_likelihoods import measure_likelihoods
from selectllm.strategies.row_scores import best_first
from selectllm.strategies.strategy import Choice, Strategy

Numbers = npt.NDArray[np.float64]


class Perplexity(Strategy):
    """Orders rows by the mean log-probability of the tokens of instruction and input; equal scores by id.

    The source prunes texts for pretraining, by models of up to 52 billion parameters. Here a text is what a row asks,
    and the model is the one whose weights the selector names. Short texts vary more: nothing corrects for that.
    """

    source = "Marion et al., When Less is More: Investigating Data Pruning for Pretraining (arXiv 2309.04564)"
    needs = frozenset({"weights"})
    is_seeded = False

    def check(self, settings: RunSettings) -> None:
        """Refuse selectors that name no weights."""
        check_selector(settings.selector)

    def prepare(self, choice: Choice) -> dict[str, StepResult]:
        """Read all rows."""
        return {"likelihoods": choice.context.run(measure_likelihoods, choice.results["pool"])}

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all rows, the excluded ones too, so that these do not move the middle."""
        table = choice.table("likelihoods")
        scores = self.scores(table["log_probability"].to_numpy())
        return best_first(pa.table({"id": table["id"], "score": pa.array(scores, pa.float64())}), "perplexity")

    @abstractmethod
    def scores(self, log_probabilities: Numbers) -> Numbers:
        """What the rows are ordered by, the highest first."""


class PerplexityLow(Perplexity):
    """Names the rows first whose text the model expects most: low perplexity. The score is the log-probability."""

    name = "perplexity-low"

    def scores(self, log_probabilities: Numbers) -> Numbers:
        """The log-probabilities themselves."""
        return log_probabilities


class PerplexityMid(Perplexity):
    """Names the rows first that are nearest to the median, by how many rows are between; the score is minus that.

    So the first N are the N in the middle of the order, as in the source.
    """

    name = "perplexity-mid"

    def scores(self, log_probabilities: Numbers) -> Numbers:
        """Minus the distance of each row's rank to the middle rank; equal log-probabilities share their mean rank."""
        from scipy.stats import rankdata

        distances: Numbers = np.abs(rankdata(log_probabilities) - (len(log_probabilities) + 1) / 2)
        return -distances


class PerplexityHigh(Perplexity):
    """Names the rows first whose text the model expects least: high perplexity. The score is minus log-probability."""

    name = "perplexity-high"

    def scores(self, log_probabilities: Numbers) -> Numbers:
        """Minus the log-probabilities."""
        return -log_probabilities
