"""`selectllm compare`: the same pool, chosen from in many ways, and what that is worth against random draws."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from selectllm.cli.config import SETTINGS_FILE, ConfigFile, Overwrite
from selectllm.cli.printing import OUTPUT, Json, output_width, print_either, progress_bars
from selectllm.comparison.settings import ComparisonSettings
from selectllm.text import sanitize

DryRun = Annotated[
    bool,
    Parameter(group=OUTPUT, help="Show the cells, and the questions and tokens that they take at most. Asks nothing."),
]


Save = Annotated[
    str | None,
    Parameter(
        group=SETTINGS_FILE,
        help="Write all settings of the comparison, as they count here, to this YAML file, at its end or that of "
        "--dry-run: `compare --config` takes it. Never writes over a file that is not as --save left it.",
    ),
]


def compare(
    settings: ComparisonSettings,
    *,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    save: Save = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compare strategies on your own pool: does any of them beat random draws, and by how much?

    Each strategy chooses at each budget, with each seed; each choice is measured. A strategy is called different from
    random only where the interval of its difference excludes 0, and its mean lies outside of what random draws reach.

    Each cell keeps its results in the store: a comparison that was killed goes on where it was.
    """
    from selectllm.cli.saved import COMPARISON, check_target, save_settings

    if save is not None:
        check_target(save, overwrite=overwrite)
    if dry_run:
        from selectllm.comparison.plan import format_comparison_plan, plan_comparison

        plan = plan_comparison(settings)
        print_either(plan, format_comparison_plan(plan), json=json)
    else:
        from selectllm.comparison.compare import compare
        from selectllm.comparison.text import as_record

        with progress_bars() as on_progress:
            comparison = compare(settings, on_progress)
        print_comparison(as_record(comparison), json=json)
    if save is not None:
        for note in save_settings(settings, save, form=COMPARISON, overwrite=overwrite):
            print(f"selectllm: {note}", file=sys.stderr)


def print_comparison(record: Mapping[str, Any], *, json: bool) -> None:
    """Print what was measured; what ended single cells goes to stderr."""
    from selectllm.comparison.text import format_record

    for line in record["failed"]:
        print(f"selectllm: {sanitize(line)}", file=sys.stderr)
    print_either(record, format_record(record, output_width()), json=json)
