"""What the sheets of judged pairs have in common: how the judge was asked, and what it did not answer."""

from collections.abc import Mapping
from typing import Any, Final

from selectllm.evaluation.page.sheet import Table

MANNERS: Final = {
    "continued": "a probability, by log-probabilities",
    "digit": "a probability, by log-probabilities in a chat",
    "choice": "a choice of one",
}
"""What a preference is, by how the judge was asked."""


def judging_facts(judging: Mapping[str, Any]) -> dict[str, str]:
    """How a judge was asked."""
    drawn = f"drawn by seed {judging['seed']}"
    return {
        "Judge": judging["selector"],
        "Preference": MANNERS[judging["manner"]],
        "Order": "both orders" if judging["both_orders"] else drawn,
    }


def judging_table(judging: Mapping[str, Any]) -> Table:
    """What was asked, and what has no judgement."""
    counts = {
        "pairs": judging["pairs"],
        "equal answers: a draw, about which nobody is asked": judging["equal"],
        "questions": judging["questions"],
        "questions that failed": judging["failed"],
        "pairs without a preference": judging["unjudged"],
    }
    for name, whose in (("outputs_alone", "model"), ("baseline_alone", "baseline")):
        if name in judging:
            counts[f"answers of the {whose} that have no partner, left out"] = judging[name]
    counts |= {f"errors: {kind}": count for kind, count in judging["errors_by_kind"].items()}
    return Table("What was judged", ["", "count"], [[name, f"{count:,}"] for name, count in counts.items()])
