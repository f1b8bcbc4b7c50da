"""What the questions about single rows will take, without asking them."""

from collections.abc import Sequence

from selectllm.errors import UsageError
from selectllm.llm.caller import LongestRequest
from selectllm.ranking.row_questions import RowQuestion
from selectllm.ranking.row_ratings import Dimension, RatingQuestion
from selectllm.settings import RunSettings
from selectllm.steps.prospect import Planned, Prospect, tokens_of


def check_words(strategy: str, settings: RunSettings) -> None:
    """Raise UsageError where the selector is no model: a script can put rows in order, and cannot say anything."""
    if settings.selector.startswith("scripted:"):
        raise UsageError(
            f"--strategy {strategy} needs a model: scripted selectors only put rows in order, by a rule. Name one with "
            "--selector, such as ollama:MODEL"
        )


def plan_ratings(prospect: Prospect, dimensions: Sequence[Dimension]) -> Planned:
    """One question about each row that may be chosen, on each dimension."""
    asked = [dimension.by(prospect.criteria) for dimension in dimensions]
    questions = [
        RatingQuestion(candidate, dimension, prospect.mode, prospect.think)
        for candidate in prospect.candidates
        if candidate.id not in prospect.excluded
        for dimension in asked
    ]
    return plan_rows(prospect, questions, [dimension.name for dimension in dimensions])


def plan_rows(prospect: Prospect, questions: Sequence[RowQuestion], dimensions: Sequence[str]) -> Planned:
    """What so many questions take, each put once."""
    requests = [question.request() for question in questions]
    calls, written = len(requests), sum(request.max_tokens for request in requests)
    read = round(sum(tokens_of(request.text) for request in requests))
    return Planned(
        "row_ratings",
        *(calls, read, written),
        longest=LongestRequest(
            max(len(request.text.encode()) for request in requests), max(request.max_tokens for request in requests)
        ),
        sample=requests[0],
        rows=1,
        counts={
            "mode": prospect.mode,
            "dimensions": list(dimensions),
            "calls": calls,
            "prompt_tokens": read,
            "output_tokens": written,
        },
    )
