"""What a judge of pairs has still to be asked, and how, as far as kept replies say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from selectllm.evaluation.forecast import KnownModel, forecast, look_up, together
from selectllm.evaluation.judging.judge import judgements_entry, put_to
from selectllm.evaluation.judging.manner import TRIAL, check_judge, in_mode, odds_manner
from selectllm.evaluation.judging.pairs import Pair
from selectllm.evaluation.judging.questions import Manner, PairQuestion
from selectllm.evaluation.judging.settings import JudgeSettings, Preference
from selectllm.llm.model import Request
from selectllm.steps.context import Context
from selectllm.store import Store

Known = tuple[Context, KnownModel, Manner]


def forecast_judge(settings: JudgeSettings, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Count what the judge of the settings has still to be asked about pairs; raises UsageError."""
    run = settings.run()
    context = Context(run, Store(run.store))
    return together([forecast_judging(context, pairs, settings.preference, both_orders=settings.both_orders)])


def forecast_judging(
    context: Context, pairs: Sequence[Pair], preference: Preference = "auto", *, both_orders: bool
) -> dict[str, Any]:
    """Count the pairs that are not judged yet, the trial among them if it decides how; raises UsageError."""
    check_judge(context)
    by_choice = in_mode(context, "listwise")
    trials: list[PairQuestion] = []
    if preference == "choice":
        found: Known = (by_choice, look_up(by_choice), "choice")
    else:
        by_odds = in_mode(context, "pointwise")
        known = look_up(by_odds)
        found = (by_odds, known, odds_manner(known.info))
    if preference == "auto":
        trial = PairQuestion(TRIAL, True, found[2])
        said, chosen = found[1].look(trial), look_up(by_choice)
        is_open = isinstance(said, Request)
        # A server that refuses odds leaves no reply to the trial: that it was asked for choices tells.
        if (not isinstance(said, Request) and said.value is None) or (
            is_open and _has_chosen(by_choice, chosen, pairs)
        ):
            found = (by_choice, chosen, "choice")
        elif is_open:
            trials = [trial]
            note = "one question more decides whether the judge gives probabilities; they are counted as if it did"
            found = (found[0], replace(found[1], notes=(*found[1].notes, note)), found[2])
    asking, known, manner = found
    put = put_to(asking, known.info, manner, pairs, both_orders)
    made = known.ledger and judgements_entry(asking, known.info, manner, pairs, both_orders).load()
    return forecast(asking.settings, "judge", known, [*trials, *put], is_made=made is not None and not trials)


def _has_chosen(context: Context, known: KnownModel, pairs: Sequence[Pair]) -> bool:
    """Whether a choice is kept about one of the pairs, in either order."""
    put = put_to(context, known.info, "choice", pairs, True)
    return any(not isinstance(known.look(question), Request) for question in put)
