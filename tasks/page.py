"""Publishes results on the page of a flow run in Prefect's UI."""

from collections.abc import Mapping
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from selectllm.comparison.summary import Comparison
from selectllm.comparison.text import to_markdown
from selectllm.evaluation.answers.text import to_markdown as to_overlap_markdown
from selectllm.quality import Verdict
from selectllm.quality.verdicts import verdict_markdown
from selectllm.report.format import markdown, shown_rows
from selectllm.report.result import Result
from selectllm.tuning.text import format_tuning


def show_result(result: Result) -> None:
    """Show the summary, and the first rows of the selection."""
    create_markdown_artifact(markdown(result), key="selection-summary", description="What the run did and chose")
    rows = shown_rows(result.chosen())
    create_table_artifact(rows, key="selection", description=f"The first rows of {result.path()}")


def show_comparison(comparison: Comparison) -> None:
    """Show what was measured, and which differences to random draws there are."""
    create_markdown_artifact(to_markdown(comparison, []), key="comparison", description="What was measured")


def show_overlap(record: Mapping[str, Any]) -> None:
    """Show how like the models' answers are to the references."""
    create_markdown_artifact(to_overlap_markdown(record), key="overlap", description="Answers beside references")


def show_tuning(record: Mapping[str, Any]) -> None:
    """Show what a fine-tuning did, and what it changed."""
    create_markdown_artifact(format_tuning(record), key="tuning", description="What was tuned, and what it gained")


def show_verdict(verdict: Verdict) -> None:
    """Show the verdict of a validation."""
    boundary = verdict.boundary
    create_markdown_artifact(
        verdict_markdown(verdict), key=f"validation-{boundary}", description=f"Expectations of the {boundary}"
    )
