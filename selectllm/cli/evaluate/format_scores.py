"""The scores of models and judges, for people."""

from collections.abc import Mapping
from typing import Any

from selectllm.cli.evaluate.paid_line import paid_line
from selectllm.evaluation.page.agreement import NAMES
from selectllm.evaluation.page.judging import MANNERS
from selectllm.text import one_line, sanitize


def format_scores(scores: Mapping[str, Any]) -> str:
    """The scores of a record, one a line, and what the fit went without."""
    names = f"{one_line(scores['model'], 80)} against {one_line(scores['baseline'], 80)}"
    lines = [
        f"{names}, by {one_line(scores['annotator'], 80)}: {scores['n']:,} questions",
        f"  win rate                    {scores['win_rate']:6.2f} %   standard error {scores['standard_error']:.2f}",
    ]
    if scores["lc_win_rate"] is not None:
        low, high = scores["lc_low"], scores["lc_high"]
        shown = "no interval" if low is None or high is None else f"95 % {low:.2f} to {high:.2f}"
        lines.append(f"  length-controlled win rate  {scores['lc_win_rate']:6.2f} %   {shown}")
    lines.append(f"  average length              {scores['avg_length']:,.0f} characters")
    lines += [f"  note: {note}" for note in scores["notes"]]
    return "\n".join(map(sanitize, lines))


def format_judging(judging: Mapping[str, Any]) -> str:
    """How pairs were judged, and what failed."""
    orders = "in both orders" if judging["both_orders"] else f"in an order drawn by seed {judging['seed']}"
    lines = [
        f"Judged by {one_line(judging['selector'], 80)}: {judging['pairs']:,} pairs {orders}",
        f"  each preference is {MANNERS[judging['manner']]}",
        f"  questions: {judging['questions']:,}, failed {judging['failed']:,}",
    ]
    if judging["asked"]:
        lines.append(f"  {paid_line(judging)}")
    if judging["equal"]:
        lines.append(f"  equal answers, a draw: {judging['equal']:,}")
    if kinds := judging["errors_by_kind"]:
        lines.append("  errors: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    for name, whose in (("outputs_alone", "model"), ("baseline_alone", "baseline")):
        if count := judging.get(name):
            lines.append(f"  answers of the {whose} to instructions that the other file lacks, left out: {count:,}")
    return "\n".join(map(sanitize, lines))


def format_agreement(found: Mapping[str, Any]) -> str:
    """How far a judge agrees with given preferences, one measure a line."""
    draws = f", {found['given_draws']:,} of them draws" if found["given_draws"] else ""
    lines = [f"{found['n']:,} pairs judged{draws}; {found['unjudged']:,} without a judgement count in nothing"]
    lines += [f"  {label:<14} {_shown(found[name])}" for name, label in NAMES.items()]
    return "\n".join(lines)


def _shown(found: Mapping[str, float | None] | None) -> str:
    if found is None:
        return "not known"
    low, high = found["low"], found["high"]
    interval = "no interval" if low is None or high is None else f"95 % {low:.3f} to {high:.3f}"
    return f"{found['value']:7.3f}   {interval}"
