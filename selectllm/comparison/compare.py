"""Compares selections of one pool: every cell is chosen and measured, and the whole is summed up."""

from collections.abc import Sequence
from pathlib import Path

from selectllm import cancellation
from selectllm.comparison.agreements import agreements
from selectllm.comparison.cells import Cell, cell_settings, list_cells, warn_of_unused
from selectllm.comparison.folder import check_folder, write_folder
from selectllm.comparison.outcomes import Outcome, paid_tokens, run_cell
from selectllm.comparison.settings import ComparisonSettings
from selectllm.comparison.summary import Comparison, estimates
from selectllm.errors import UsageError
from selectllm.evaluation.measures import labels_of
from selectllm.execution import Progress, no_progress
from selectllm.pool.source import is_standard_input
from selectllm.steps.context import Context
from selectllm.steps.read_pool import read_pool
from selectllm.steps.stratify import divide
from selectllm.store import Store
from selectllm.strategies import check_strategy


def compare(settings: ComparisonSettings, on_progress: Progress = no_progress) -> Comparison:
    """Choose and measure all cells; what an earlier comparison or run kept in the store is not made again.

    Raises UsageError before anything is asked, RunError when a cell cannot be finished for a reason that would end the
    other cells, too.
    """
    with cancellation.propagate_interrupt():
        cells, outcomes = list_cells(settings), list[Outcome]()
        check_comparison(settings, cells)
        for number, cell in enumerate(cells):
            on_progress("cells", number, len(cells))
            run = cell_settings(settings, cell)
            context = Context(run, Store(run.store), on_progress, paid_elsewhere=paid_tokens(outcomes))
            outcomes.append(run_cell(context, cell, settings.labels))
        on_progress("cells", len(cells), len(cells))
        return publish_comparison(settings, outcomes)


def check_comparison(settings: ComparisonSettings, cells: Sequence[Cell]) -> None:
    """Check all that can be checked before anything is embedded or asked: folder, strategies, pool, quotas and labels.

    Raises UsageError.
    """
    check_folder(settings)
    warn_of_unused(settings, cells)
    if any(map(is_standard_input, (settings.pool, *settings.more_files))):
        raise UsageError("a comparison reads its pool for each cell: write standard input to a file, and name that")
    runs = [cell_settings(settings, cell) for cell in cells]
    for run in runs:
        check_strategy(run)
    largest = max(runs, key=lambda run: run.budget)
    context = Context(largest, Store(largest.store))
    pool = read_pool(context).table(context.store)
    if settings.aim.column is not None:
        for run in {run.budget: run for run in runs}.values():
            divide(run, pool, ())
    if settings.labels is not None:
        labels_of(pool, settings.labels)


def publish_comparison(settings: ComparisonSettings, outcomes: Sequence[Outcome]) -> Comparison:
    """Sum the outcomes up, and write the output folder if asked for; raises StoreError when it cannot be written."""
    found = agreements(Store(settings.store), outcomes)
    comparison = Comparison(settings, outcomes, estimates(outcomes), found)
    if settings.out is not None:
        write_folder(Path(settings.out).expanduser(), comparison)
    return comparison
