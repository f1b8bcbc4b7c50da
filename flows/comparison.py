"""Compares selections of one pool as a Prefect flow: each cell is a subflow, whose steps are cached in the store."""

import sys
from typing import Annotated, Any

import prefect
from pydantic import Field

from selectllm import cancellation
from selectllm.comparison.cells import Cell, cell_settings, list_cells
from selectllm.comparison.compare import check_comparison, publish_comparison
from selectllm.comparison.outcomes import Outcome, paid_tokens, run_cell
from selectllm.comparison.settings import ComparisonSettings
from selectllm.comparison.text import as_record
from selectllm.settings import RunSettings
from selectllm.steps.context import Tokens
from tasks.configuration import with_flow_store
from tasks.context import flow_context
from tasks.logs import hide_own_tracebacks
from tasks.page import show_comparison
from tasks.settings import FlowSettings
from tasks.states import as_cached

DEFAULT_FLOW = FlowSettings()
hide_own_tracebacks()  # already where Prefect refuses the parameters


@prefect.flow(
    name="compare-selections",
    flow_run_name="{comparison.strategies} at {comparison.budgets}",
    persist_result=False,
    result_serializer="json",  # otherwise Prefect pickles the error of a failed run
)
def compare_selections(
    comparison: Annotated[ComparisonSettings, Field(json_schema_extra={"title": "Comparison"})],
    flow: Annotated[FlowSettings, Field(json_schema_extra={"title": "Workers"})] = DEFAULT_FLOW,
) -> dict[str, Any]:
    """Choose from a pool by several strategies, and say which of them differ from random draws.

    Args:
        comparison: What to choose from, how many, and by which strategies. What is in the store is not made again.
        flow: Where the pieces of embedding and ranking run.
    """
    hide_own_tracebacks()
    with cancellation.propagate_interrupt():
        comparison = with_flow_store(comparison)
        cells, outcomes = list_cells(comparison), list[Outcome]()
        check_comparison(comparison, cells)
        for cell in cells:
            run = cell_settings(comparison, cell)
            outcomes.append(compare_cell(cell, run, comparison.labels, flow, paid_tokens(outcomes)))
        result = publish_comparison(comparison, outcomes)
        show_comparison(result)
        return as_record(result)


@prefect.flow(name="compare-cell", flow_run_name="{cell.title}", persist_result=False, result_serializer="json")
def compare_cell(
    cell: Cell, run: RunSettings, labels: str | None, flow: FlowSettings, paid_elsewhere: Tokens
) -> Outcome:
    """Choose the rows of one cell, and measure them."""
    hide_own_tracebacks()
    outcome = run_cell(flow_context(run, flow, paid_elsewhere), cell, labels)
    return as_cached(outcome, is_cached=outcome.is_cached)


if __name__ == "__main__":
    from flows.commands import comparison_app
    from selectllm.cli.main import run_app

    sys.exit(run_app(comparison_app(compare_selections)))
