"""The sheet of a judge beside given preferences."""

from collections.abc import Mapping
from typing import Any, Final

from selectllm.evaluation.page.judging import judging_facts, judging_table
from selectllm.evaluation.page.sheet import Mark, Picture, Sheet, Table

NAMES: Final = {
    "accuracy": "accuracy",
    "kappa": "Cohen's kappa",
    "position_bias": "position bias",
    "length_bias": "length bias",
}
"""What a table calls the measures."""

MEANING: Final = {
    "accuracy": "of the pairs with a given winner, the share on which the judge names the same; a draw is half",
    "kappa": "over first, second and draw: 0 by chance, 1 where both always agree",
    "position_bias": "the mean preference for the answer shown first, less 0.5",
    "length_bias": "the mean preference for the longer answer, less that of the given preferences",
}
NOTES: Final = (
    "Intervals: 95 %, by a bootstrap over the pairs. Pairs without a judgement count in nothing.",
    "A judge without a bias has both biases at 0. Annotations alone do not tell the position bias.",
)


def agreement_sheet(record: Mapping[str, Any]) -> Sheet:
    """What a record of agreement says."""
    judging, known = record.get("judging"), {name: record[name] for name in NAMES if record[name] is not None}
    agree, biases = (
        [Mark("", NAMES[name], known[name]["value"], known[name]["low"], known[name]["high"]) for name in some]
        for some in ([name for name in NAMES if name in known and ("bias" in name) is bias] for bias in (False, True))
    )
    rows = [[NAMES[name], MEANING[name], *_cells(record[name])] for name in NAMES]
    return Sheet(
        "Judge beside given preferences",
        {
            "Pairs judged": f"{record['n']:,}",
            "Given draws among them": f"{record['given_draws']:,}",
            "Without a judgement": f"{record['unjudged']:,}",
            **(judging_facts(judging) if judging else {}),
        },
        [
            Picture("How far do they agree?", "1 where they always do", agree),
            Picture("What else does the judge go by?", "bias", biases, reference=0.0),
        ],
        [
            Table("Agreement and biases", ["measure", "what it is", "value", "95 % interval"], rows, names=2),
            *([judging_table(judging)] if judging else []),
        ],
        NOTES,
    )


def _cells(found: Mapping[str, float | None] | None) -> list[str]:
    if found is None:
        return ["not known", "-"]
    low, high = found["low"], found["high"]
    return [f"{found['value']:.3f}", "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"]
