"""The sheet of AlpacaEval's scores: a model against a baseline."""

from collections.abc import Mapping
from typing import Any, Final

from selectllm.evaluation.page.judging import judging_facts, judging_table
from selectllm.evaluation.page.sheet import Mark, Picture, Sheet, Table

NORMAL: Final = 1.96
"""Standard errors to each side of a mean that hold 95 % of a normal distribution."""

NOTES: Final = (
    "The win rate is the mean preference for the model, in percent: 50 is as good as the baseline. Its interval is "
    "1.96 standard errors to each side.",
    "The length-controlled win rate is what the win rate would be if all answers were as long as the baseline's. Its "
    "interval is a bootstrap over the questions, in which each draw is fitted anew.",
    "Win rates by one judge, or by one prompt, do not compare with those by another.",
)


def alpaca_eval_sheet(record: Mapping[str, Any]) -> Sheet:
    """What a record of scores says."""
    spread, win_rate = NORMAL * record["standard_error"], record["win_rate"]
    marks = [Mark("", "win rate", win_rate, max(win_rate - spread, 0.0), min(win_rate + spread, 100.0))]
    if record["lc_win_rate"] is not None:
        marks.append(Mark("", "length-controlled", record["lc_win_rate"], record["lc_low"], record["lc_high"]))
    judging = record.get("judging")
    rows = [[mark.label, f"{mark.value:.2f} %", _interval(mark)] for mark in marks]
    facts = {"Model": record["model"], "Baseline": record["baseline"], "Judged by": record["annotator"]}
    if judging:
        facts = {name: facts[name] for name in ("Model", "Baseline")} | judging_facts(judging)
    counts = {"Questions": f"{record['n']:,}", "Without a preference": f"{record['unjudged']:,}"}
    return Sheet(
        "AlpacaEval",
        facts | counts | {"Average length": f"{record['avg_length']:,.0f} characters"},
        [Picture("How often does the model win?", "percent", marks, reference=50.0)],
        [Table("Win rates", ["", "value", "95 % interval"], rows), *([judging_table(judging)] if judging else [])],
        [*(f"{note[:1].upper()}{note[1:]}." for note in record["notes"]), *NOTES],
    )


def _interval(mark: Mark) -> str:
    return "-" if mark.low is None or mark.high is None else f"{mark.low:.2f} to {mark.high:.2f}"
