"""Publishes results on the page of a flow run in Prefect's UI, and keeps the page of the selection."""

import base64
from typing import Final

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from selectllm.comparison.summary import Comparison
from selectllm.comparison.text import to_markdown
from selectllm.errors import SelectLLMError
from selectllm.quality import Verdict
from selectllm.quality.verdicts import verdict_markdown
from selectllm.report.format import markdown, shown_rows
from selectllm.report.page.build import keep_page, make_page
from selectllm.report.page.figures import Figure
from selectllm.report.page.stills import svg
from selectllm.report.result import Result
from selectllm.store.runs import load_run

MOST_PICTURES: Final = 3
"""Charts of the page that are shown in the UI, each of some 15 kB."""


def show_result(result: Result) -> None:
    """Show the summary, and the first rows of the selection."""
    create_markdown_artifact(markdown(result), key="selection-summary", description="What the run did and chose")
    rows = shown_rows(result.chosen())
    create_table_artifact(rows, key="selection", description=f"The first rows of {result.path()}")


def show_comparison(comparison: Comparison) -> None:
    """Show what was measured, and which differences to random draws there are."""
    create_markdown_artifact(to_markdown(comparison, []), key="comparison", description="What was measured")


def show_page(result: Result) -> None:
    """Keep the page of a run beside its artifacts, and say where it lies; a run without one is a finished run too."""
    try:
        page = make_page(result.store, load_run(result.store, result.run), umap=False)
        address = keep_page(result.store, page)
        text = _page_markdown(address, page.figures)
    except Exception as error:  # all rows are chosen and kept: that their page cannot be made must not fail the run
        is_ours = isinstance(error, SelectLLMError)
        get_run_logger().warning("There is no page of this run: %s", error, exc_info=not is_ours)
        return
    create_markdown_artifact(text, key="selection-page", description="Where the page of the selection lies")


def _page_markdown(address: str, figures: tuple[Figure, ...]) -> str:
    """The address of a page, and some of its charts: those that show nothing of a pool's own words."""
    lines = [
        f"The page of this run, with all chosen rows, a map and charts: `{address.replace('`', '')}`",
        "",
        "Open the file in a browser. It needs no network.",
    ]
    for figure in [figure for figure in figures if figure.is_wordless][:MOST_PICTURES]:
        picture = base64.b64encode(svg(figure.spec).encode()).decode("ascii")
        lines += [
            "",
            f"**{figure.title}**",
            "",
            figure.text,
            "",
            f"![{figure.title}](data:image/svg+xml;base64,{picture})",
        ]
    return "\n".join(lines)


def show_verdict(verdict: Verdict) -> None:
    """Show the verdict of a validation."""
    boundary = verdict.boundary
    create_markdown_artifact(
        verdict_markdown(verdict), key=f"validation-{boundary}", description=f"Expectations of the {boundary}"
    )
