"""The scores of `selectllm evaluate alpaca-eval`, for people."""

from selectllm.evaluation.alpaca_eval.scores import Scores
from selectllm.text import one_line, sanitize


def format_scores(scores: Scores) -> str:
    """The scores, one a line, and what the fit went without."""
    names = f"{one_line(scores.model, 80)} against {one_line(scores.baseline, 80)}"
    lines = [
        f"{names}, by {one_line(scores.annotator, 80)}: {scores.n:,} questions",
        f"  win rate                    {scores.win_rate:6.2f} %   standard error {scores.standard_error:.2f}",
    ]
    if lc := scores.length_controlled:
        shown = "no interval" if lc.low is None or lc.high is None else f"95 % {lc.low:.2f} to {lc.high:.2f}"
        lines.append(f"  length-controlled win rate  {lc.value:6.2f} %   {shown}")
    lines.append(f"  average length              {scores.average_length:,.0f} characters")
    lines += [f"  note: {note}" for note in scores.notes]
    return "\n".join(map(sanitize, lines))
