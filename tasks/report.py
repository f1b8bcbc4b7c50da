"""Keeps the report of a flow run's selection beside the artifacts, and shows in Prefect's UI where it lies."""

import base64
from typing import TYPE_CHECKING, Final

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from selectllm.errors import SelectLLMError
from selectllm.report.page.made_by import made_by
from selectllm.report.result import Result
from selectllm.store import Store
from selectllm.store.reports import address_of, content_of, find_report, keep_report, note_report
from selectllm.store.runs import RunRecord, load_run

if TYPE_CHECKING:
    from selectllm.report.page.figures import Figure

MOST_PICTURES: Final = 3
"""Charts of the report that are shown in the UI, each of some 15 kB."""


def show_report(result: Result) -> None:
    """Keep the report of a run beside its artifacts, and say where it lies; a run without one is a finished run too.

    A run that made nothing anew shows the report of the run that made the same, as long as that is there as it was
    written.
    """
    try:
        record = load_run(result.store, result.run)
        content = content_of(record, made_by())
        is_made = all(step.cached for step in record.steps)
        text = (_earlier(result.store, record, content) if is_made else None) or _new(result.store, record, content)
    except Exception as error:  # all rows are chosen and kept: that their report cannot be made must not fail the run
        is_ours = isinstance(error, SelectLLMError)
        get_run_logger().warning("There is no report of this run: %s", error, exc_info=not is_ours)
        return
    create_markdown_artifact(text, key="selection-report", description="Where the report of the selection lies")


def _earlier(store: Store, record: RunRecord, content: str) -> str | None:
    """What shows the report of an earlier run with the same content; None where there is none."""
    report = find_report(store, content, record.run)
    if report is None:
        return None
    made = f"The run {report.run} made it, with the same settings and results. Times and costs are those of that run."
    return _page_markdown(address_of(store, report.run), report.text, made)


def _new(store: Store, record: RunRecord, content: str) -> str:
    """Make the report of a run, and keep it; returns what shows it."""
    from selectllm.report.page.build import make_page  # a run that finds its report needs none of this

    page = make_page(store, record, umap=False)
    html, pictures = page.html.encode(), _pictures(page.figures)
    address = keep_report(store, record.run, html)
    if page.is_whole:
        note_report(store, content, record.run, html, pictures)
    return _page_markdown(address, pictures)


def _page_markdown(address: str, pictures: str, *about: str) -> str:
    """The address of a page, what there is to say about it, and its pictures."""
    lines = [
        "The report of this run, with all chosen rows, a map and charts:",
        f"    {address}",
        "Open the file in a browser. It needs no network.",
    ]
    return "\n\n".join((*lines, *about, *([pictures] if pictures else [])))


def _pictures(figures: "tuple[Figure, ...]") -> str:
    """Some of a page's charts, in Markdown: those that show nothing of a pool's own words."""
    from selectllm.report.page.stills import svg

    shown = []
    for figure in [figure for figure in figures if figure.is_wordless][:MOST_PICTURES]:
        picture = base64.b64encode(svg(figure.spec).encode()).decode("ascii")
        shown += [f"**{figure.title}**", figure.text, f"![{figure.title}](data:image/svg+xml;base64,{picture})"]
    return "\n\n".join(shown)
