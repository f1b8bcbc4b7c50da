"""`selectllm select`: a run of the library, and what it prints."""

import sys
from typing import TYPE_CHECKING

from selectllm.cli.printing import Json, output_width, print_json
from selectllm.cli.progress import progress_bars
from selectllm.settings import RunSettings

if TYPE_CHECKING:  # pyarrow, scikit-learn and the rest take a second that `--help` does not need
    from selectllm.report.result import Result


def select(settings: RunSettings, *, json: Json = False) -> int:
    """Choose the N instructions of a pool that are most worth annotating.

    Each step keeps its result in the store: what an earlier run made is not made, asked or paid for again.
    """
    from selectllm.pipeline import select

    with progress_bars() as on_progress:
        result = select(settings, on_progress)
    print_result(result, settings, json=json)
    return 0


def print_result(result: "Result", settings: RunSettings, *, json: bool) -> None:
    """Print what a run chose and why, and where it is; or the summary alone, as JSON."""
    from selectllm.report.format import format_selection, notes

    for note in notes(result.summary):
        print(f"selectllm: {note}", file=sys.stderr)
    if json:
        print_json(result.summary)
    else:
        print(format_selection(result, settings.out, output_width()))
