"""`selectllm select` and `selectllm plan`: a run of the library, or what it would take."""

import sys
from typing import TYPE_CHECKING

from selectllm.cli.printing import Json, output_width, print_either, print_json, print_text, progress_bars
from selectllm.settings import RunSettings

if TYPE_CHECKING:  # pyarrow, scikit-learn and the rest take a second that `--help` does not need
    from selectllm.report.result import Result


def select(settings: RunSettings, *, json: Json = False) -> None:
    """Choose the N instructions of a pool that are most worth annotating.

    Each step keeps its result in the store: what an earlier run made is not made, asked or paid for again.
    """
    from selectllm.pipeline import select

    with progress_bars() as on_progress:
        result = select(settings, on_progress)
    print_result(result, settings, json=json)


def plan(settings: RunSettings, *, json: Json = False) -> None:
    """Show what a run would do and take: rows, queries, rounds, calls and tokens. Calls no model."""
    from selectllm.plan import plan_run
    from selectllm.report.format import format_plan

    result = plan_run(settings)
    print_either(result, format_plan(result), json=json)


def print_result(result: "Result", settings: RunSettings, *, json: bool) -> None:
    """Print what a run chose and why, and where it is; or the summary alone, as JSON."""
    from selectllm.report.format import format_selection, notes

    for note in notes(result.summary):
        print(f"selectllm: {note}", file=sys.stderr)
    if json:
        print_json(result.summary)
    else:
        print_text(format_selection(result, settings.out, output_width()))
