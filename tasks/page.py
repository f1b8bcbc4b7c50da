"""Publishes results on the page of a flow run in Prefect's UI."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from selectllm.quality import Verdict
from selectllm.quality.verdicts import verdict_markdown
from selectllm.report.chosen_rows import shown_rows
from selectllm.report.format import markdown
from selectllm.report.result import Result

if TYPE_CHECKING:  # what measures and compares, and scipy with it, takes a second that only its own flow needs
    from selectllm.comparison.summary import Comparison
    from selectllm.evaluation.page import sheet


def show_result(result: Result) -> None:
    """Show the summary, and the first rows of the selection."""
    create_markdown_artifact(markdown(result), key="selection-summary", description="What the run did and chose")
    rows = shown_rows(result.chosen())
    create_table_artifact(rows, key="selection", description=f"The first rows of {result.path()}")


def show_comparison(comparison: "Comparison") -> None:
    """Show what was measured, and which differences to random draws there are."""
    from selectllm.comparison.text import to_markdown

    create_markdown_artifact(to_markdown(comparison, []), key="comparison", description="What was measured")


def show_overlap(record: Mapping[str, Any]) -> None:
    """Show how like the models' answers are to the references."""
    from selectllm.evaluation.page.overlap import overlap_sheet

    _show_sheet(overlap_sheet(record), key="overlap")


def show_mt_bench(record: Mapping[str, Any]) -> None:
    """Show the scores of the models by category and turn."""
    from selectllm.evaluation.page.mt_bench import mt_bench_sheet

    _show_sheet(mt_bench_sheet(record), key="mt-bench")


def show_alpaca_eval(record: Mapping[str, Any]) -> None:
    """Show how often a model wins against its baseline."""
    from selectllm.evaluation.page.alpaca_eval import alpaca_eval_sheet

    _show_sheet(alpaca_eval_sheet(record), key="alpaca-eval")


def show_tuning(record: Mapping[str, Any]) -> None:
    """Show what a fine-tuning did, and what it changed."""
    from selectllm.tuning.text import format_tuning

    create_markdown_artifact(format_tuning(record), key="tuning", description="What was tuned, and what it gained")


def show_verdict(verdict: Verdict) -> None:
    """Show the verdict of a validation."""
    boundary = verdict.boundary
    create_markdown_artifact(
        verdict_markdown(verdict), key=f"validation-{boundary}", description=f"Expectations of the {boundary}"
    )


def _show_sheet(found: "sheet.Sheet", key: str) -> None:
    from selectllm.evaluation.page import sheet

    create_markdown_artifact(sheet.to_markdown(found), key=key, description=found.title)
