"""Says in words what a calibration found."""

from collections.abc import Iterator
from typing import Final

from rich.console import JustifyMethod

from selectllm.ranking.calibration import Discrimination
from selectllm.ranking.discrimination import Estimate
from selectllm.report.plain_table import plain_table
from selectllm.steps.calibrate import PASSES, ROWS, CalibrationReport

NAME_WIDTH: Final = 18  # as the names of doctor's checks
COLUMNS: Final[dict[str, JustifyMethod]] = {
    "": "left",
    "pairs": "right",
    "accuracy": "right",
    "95 % interval": "left",
    "AUC": "right",
    " 95 % interval": "left",
}


def format_calibration(report: CalibrationReport, width: int) -> str:
    """The lines that doctor prints under its checks: a table of at most `width` columns, the facts, the advice."""
    found = report.calibration
    parts = {"all": found.overall, **found.by_language, **found.by_kind}
    rows = [(name, *_cells(part)) for name, part in parts.items()]
    table = [f"     {line}" for line in plain_table(COLUMNS, rows, width - 5)]
    facts = [f"     {name:<{NAME_WIDTH}} {text}" for name, text in _facts(report)]
    advice = f"{'ok ' if report.ok else 'NOT'}  {'calibration':<{NAME_WIDTH}} {found.advice}"
    return "\n".join(["", *table, "", *facts, advice])


def _cells(part: Discrimination) -> tuple[str, ...]:
    return str(part.accuracy.pairs), *_estimate(part.accuracy), *_estimate(part.auc)


def _estimate(estimate: Estimate) -> tuple[str, str]:
    if estimate.value is None:
        return "-", "-"
    return f"{estimate.value:.2f}", f"{estimate.low:.2f} to {estimate.high:.2f}"


def _facts(report: CalibrationReport) -> Iterator[tuple[str, str]]:
    found, expense = report.calibration, report.expense
    asked = (
        "each text alone, once" if report.query_size is None else f"lists of up to {report.query_size}, {PASSES} passes"
    )
    yield "questions", f"{expense.questions}: {asked}; {found.unanswered:.0%} had no usable answer"
    if found.places:
        text = f"{found.places.first_half:.0%} of the picks stood in the first half of their list (50% without bias)"
        yield "position", text + ("" if found.p is None else f"; even first picks: p = {found.p:.2g}")
    if found.agreement is not None:
        yield (
            "agreement",
            f"two passes say the same of {found.agreement:.0%} of the pairs that both decide (chance: 50%)",
        )
    yield "tokens", f"{expense.prompt_tokens:,.0f} read and {expense.output_tokens:,.0f} written a question"
    cost = "cost unknown: set --price-in and --price-out"
    if expense.cost_for_rows is not None:
        cost = f"cost {expense.cost_for_rows:,.4g}"
    yield (
        f"{ROWS:,} rows",
        f"{expense.questions_for_rows:,} questions, about {expense.seconds_for_rows:,.0f} s, {cost} "
        "(one pass over rows of such lengths)",
    )
