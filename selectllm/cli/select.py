"""`selectllm select` and `selectllm plan`: a run of the library, or what it would take."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from selectllm.cli.config import SETTINGS_FILE, ConfigFile, Overwrite
from selectllm.cli.printing import OUTPUT, Json, output_width, print_either, print_json, print_text, progress_bars
from selectllm.settings import RunSettings

if TYPE_CHECKING:  # pyarrow, scikit-learn and the rest take a second that `--help` does not need
    from selectllm.report.result import Result


def select(settings: RunSettings, *, config: ConfigFile = None, json: Json = False) -> None:
    """Choose the N instructions of a pool that are most worth annotating.

    Each step keeps its result in the store: what an earlier run made is not made, asked or paid for again.
    """
    from selectllm.pipeline import select

    with progress_bars(settings) as on_progress:
        result = select(settings, on_progress)
    print_result(result, settings, json=json)


ShowPrompt = Annotated[
    bool,
    Parameter(
        group=OUTPUT,
        help="Show one whole question of the run, as it would be sent. Queries need embeddings, which a plan does not "
        "make: the question is about the first rows of the pool.",
    ),
]


Save = Annotated[
    str | None,
    Parameter(
        group=SETTINGS_FILE,
        help="Write all settings of the run, as they count here, to this YAML file: `select --config` takes it. Never "
        "writes over a file that is not as --save left it.",
    ),
]


def plan(
    settings: RunSettings,
    *,
    show_prompt: ShowPrompt = False,
    config: ConfigFile = None,
    save: Save = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show what a run would do and take: rows, queries, rounds, calls and tokens. Calls no model."""
    from selectllm.cli.saved import check_target, save_settings
    from selectllm.plan import plan_run
    from selectllm.report.format_plan import format_plan

    if save is not None:
        check_target(save, overwrite=overwrite)
    result = plan_run(settings, show_prompt=show_prompt)
    print_either(result, format_plan(result), json=json)
    if save is not None:
        for note in save_settings(settings, save, overwrite=overwrite):
            print(f"selectllm: {note}", file=sys.stderr)


def print_result(result: "Result", settings: RunSettings, *, json: bool) -> None:
    """Print what a run chose and why, and where it is; or the summary alone, as JSON."""
    from selectllm.report.format import format_selection, notes

    for note in notes(result.summary):
        print(f"selectllm: {note}", file=sys.stderr)
    if json:
        print_json(result.summary)
    else:
        print_text(format_selection(result, settings.out, output_width()))
