"""Keeps the report of a flow run's selection beside the artifacts, and shows in Prefect's UI where it lies."""

import base64
from typing import Final

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from selectllm.errors import SelectLLMError
from selectllm.report.page.build import keep_page, make_page
from selectllm.report.page.figures import Figure
from selectllm.report.page.stills import svg
from selectllm.report.result import Result
from selectllm.store.runs import load_run

MOST_PICTURES: Final = 3
"""Charts of the report that are shown in the UI, each of some 15 kB."""


def show_report(result: Result) -> None:
    """Keep the report of a run beside its artifacts, and say where it lies; a run without one is a finished run too."""
    try:
        page = make_page(result.store, load_run(result.store, result.run), umap=False)
        address = keep_page(result.store, page)
        text = _page_markdown(address, page.figures)
    except Exception as error:  # all rows are chosen and kept: that their report cannot be made must not fail the run
        is_ours = isinstance(error, SelectLLMError)
        get_run_logger().warning("There is no report of this run: %s", error, exc_info=not is_ours)
        return
    create_markdown_artifact(text, key="selection-report", description="Where the report of the selection lies")


def _page_markdown(address: str, figures: tuple[Figure, ...]) -> str:
    """The address of a page, and some of its charts: those that show nothing of a pool's own words."""
    lines = [
        f"The report of this run, with all chosen rows, a map and charts: `{address.replace('`', '')}`",
        "",
        "Open the file in a browser. It needs no network.",
    ]
    for figure in [figure for figure in figures if figure.is_wordless][:MOST_PICTURES]:
        picture = base64.b64encode(svg(figure.spec).encode()).decode("ascii")
        lines += ["", f"**{figure.title}**", "", figure.text]
        lines += ["", f"![{figure.title}](data:image/svg+xml;base64,{picture})"]
    return "\n".join(lines)
