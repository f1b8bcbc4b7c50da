"""Cost: what a selection took, by what its steps counted."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from selectllm.evaluation.measures.measure import About, Missing, Values
from selectllm.settings import RankingSettings


class Step(Protocol):
    """A result or a record of a step, as far as its cost goes."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the step counted."""

    @property
    def seconds(self) -> float:
        """How long it took in this run."""

    @property
    def cached(self) -> bool:
        """Whether it was in the store, so that it took no time."""


def cost_of(steps: Mapping[str, Step], prices: RankingSettings) -> Values:
    """Questions, tokens, money and seconds of all steps, whichever run paid for their replies.

    Parameters: the steps by kind, as results or as records of a run; `prices`, the settings that hold them. The cost is
    in the unit of the prices. Seconds are missing where steps were in the store already: they took no time then.
    """
    asked = [step.facts for step in steps.values() if "prompt_tokens" in step.facts]
    questions, prompts, outputs = (
        sum(facts[name] for facts in asked) for name in ("replies", "prompt_tokens", "output_tokens")
    )
    money = prices.cost(prompts, outputs)
    cached = sorted(kind for kind, step in steps.items() if step.cached)
    seconds = sum(step.seconds for step in steps.values())
    return {
        "questions": float(questions),
        "prompt_tokens": float(prompts),
        "output_tokens": float(outputs),
        "cost": Missing("there are no prices") if money is None else money,
        "seconds": Missing(f"in the store already: {', '.join(cached)}") if cached else seconds,
    }


COST: Final = About(
    name="cost",
    better="lower",
    rewards="Asking a model little, and taking little time",
    gamed_by="Asking nothing: it says nothing of what was chosen. Seconds depend on the machine and its load",
    values=("questions", "prompt_tokens", "output_tokens", "cost", "seconds"),
)
