"""A fine-tuning and its plan as text, for terminals and pages."""

from collections.abc import Mapping
from typing import Any, Final

_COLUMNS: Final = ("untuned", "tuned", "difference")


def format_plan(plan: Mapping[str, Any]) -> str:
    """What a fine-tuning will take."""
    lines = [f"Base: {plan['base']}", *_rows(plan), f"Steps: {plan['steps']:,}"]
    lines += [f"{name.capitalize()}: about {_duration(value)}" for name, value in plan["seconds"].items()]
    return "\n".join([*lines, "Timed with one step on this machine, as busy as it is now. Nothing was written."])


def format_tuning(record: Mapping[str, Any]) -> str:
    """What a fine-tuning did, and what it changed."""
    lines = [f"Base: {record['base']['name']}", *_rows(record)]
    losses = record["step_losses"]
    lines.append(f"Steps: {record['steps']:,}, loss of the first {losses[0]:.3f}, of the last {losses[-1]:.3f}")
    if record["scores"]:
        lines += ["", table(record["scores"])]
    if record["model"]:
        lines += ["", f"Model: {record['model']}"]
    return "\n".join(lines)


def table(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The losses in nats as a table of Markdown, with 95 % intervals over rows; a difference below 0 is a gain."""
    header = ["| held-out loss (nats) | rows | untuned | tuned | difference |", "|---|---|---|---|---|"]
    rows = []
    for name, untuned in scores["untuned"].items():
        cells = [cell(scores[column][name]) for column in _COLUMNS]
        rows.append(f"| {name} | {untuned['rows']:,} | {' | '.join(cells)} |")
    return "\n".join(header + rows)


def cell(estimate: Mapping[str, Any]) -> str:
    """A mean with its interval, where there is one."""
    if estimate["low"] is None:
        return f"{estimate['mean']:.3f}"
    return f"{estimate['mean']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _rows(record: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, title in (("train", "Training rows"), ("test", "Held-out rows")):
        if counts := record[name]:
            more = f", {counts['cut']:,} cut" if counts["cut"] else ""
            more += f", {counts['too_long']:,} left out as too long" if counts["too_long"] else ""
            more += f", {counts['left_out']:,} without a usable answer" if counts.get("left_out") else ""
            lines.append(f"{title}: {counts['rows']:,} ({counts['answer_tokens']:,} tokens of answers{more})")
    return lines


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
