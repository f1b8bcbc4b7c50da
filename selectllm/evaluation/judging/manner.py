"""Decides how a judge is asked: by odds where its server gives log-probabilities, else by a choice."""

from dataclasses import replace
from typing import Final

from selectllm.errors import (
    ContentRefused,
    ContextLengthExceeded,
    ModelChanged,
    ModelError,
    ModelUnavailable,
    TransientError,
    UsageError,
)
from selectllm.evaluation.judging.pairs import Pair
from selectllm.evaluation.judging.questions import Manner, PairQuestion
from selectllm.evaluation.judging.settings import Preference
from selectllm.llm.caller import LongestRequest
from selectllm.llm.model import Mode, ModelInfo
from selectllm.steps.ask_rows import ask_about_rows
from selectllm.steps.context import Context
from selectllm.steps.model import check_model

TRIAL: Final = Pair(0, "What is 2 + 2? Answer with the number.", "5", "4")
"""The pair that shows whether a server gives odds; how it is judged does not matter."""


def choose_manner(context: Context, preference: Preference) -> tuple[Context, ModelInfo, Manner]:
    """The context and the model for the asking, and how it is asked; `auto` takes one question, whose reply is kept.

    Raises UsageError where no model is named, SelectorUnavailable, ModelError.
    """
    check_judge(context)
    if preference != "choice":
        by_odds = in_mode(context, "pointwise")
        model = by_odds.run(check_model)
        manner = odds_manner(model)
        if preference == "odds" or _gives_odds(by_odds, model, manner):
            return by_odds, model, manner
    by_choice = in_mode(context, "listwise")
    return by_choice, by_choice.run(check_model), "choice"


def check_judge(context: Context) -> None:
    """Raise UsageError where nobody has named a judge, and for a scripted selector."""
    if "selector" not in context.settings.model_fields_set:
        raise UsageError(
            "no judge is named: name a model with --selector, such as ollama:llama3.1:8b. The demo model judges only "
            "as --selector embedded, and is a poor judge"
        )
    if context.settings.selector.startswith("scripted:"):
        raise UsageError("a judge is a model, and a scripted selector goes by a rule: name a model with --selector")


def odds_manner(model: ModelInfo) -> Manner:
    """How odds are asked for: in a chat where a server behind OpenAI's API continues no raw text."""
    is_chat = model.selector.startswith("openai:") and not model.digest.endswith(" completions")
    return "digit" if is_chat else "continued"


def in_mode(context: Context, mode: Mode) -> Context:
    """The context of a run whose model is asked in this mode."""
    settings = context.settings
    ranking = settings.ranking.model_copy(update={"mode": mode})
    return replace(context, settings=settings.model_copy(update={"ranking": ranking}))


def _gives_odds(context: Context, model: ModelInfo, manner: Manner) -> bool:
    """Whether a judge's reply to the trial has odds; raises ModelError where it cannot be asked at all."""
    trial, settings = PairQuestion(TRIAL, True, manner), context.settings
    # A trial without odds is an answer, too, and nobody waits a day for it.
    ranking = settings.ranking.model_copy(update={"max_abstained": 1.0, "batch": False})
    alone = replace(context, settings=settings.model_copy(update={"ranking": ranking}))
    request = trial.request()
    longest = LongestRequest(len(request.text.encode()), request.max_tokens)
    try:
        asking = ask_about_rows(alone, model, "trial", [trial], longest)
    except (TransientError, ContentRefused, ContextLengthExceeded, ModelUnavailable, ModelChanged):
        raise  # they say nothing of odds
    except ModelError:
        return False  # the server has no such way to ask
    context.log.trial_usage += asking.stats.usage
    if asking.without_reply:
        raise ModelError(
            f"{model.name} gave no reply to the question whether it has odds ({', '.join(asking.without_reply)}): mend "
            "its server and run again, or say --preference choice"
        )
    return bool(asking.answers)
