"""The method as a Prefect flow: the library's pipeline, each step a task whose artifact is cached in the store."""

import sys
from typing import Annotated, Any

import prefect
from pydantic import Field

from selectllm import cancellation, pipeline
from selectllm.settings import RunSettings
from tasks.context import flow_context
from tasks.logs import hide_own_tracebacks
from tasks.page import show_result
from tasks.report import show_report
from tasks.settings import FlowSettings

DEFAULT_FLOW = FlowSettings()
hide_own_tracebacks()  # already where Prefect refuses the parameters


@prefect.flow(
    name="select-instructions",
    flow_run_name="{run.budget} rows by {run.selector}",
    persist_result=False,
    result_serializer="json",  # otherwise Prefect pickles the error of a failed run
)
def select_instructions(
    run: Annotated[RunSettings, Field(json_schema_extra={"title": "Run"})],
    flow: Annotated[FlowSettings, Field(json_schema_extra={"title": "Workers"})] = DEFAULT_FLOW,
) -> dict[str, Any]:
    """Choose the N instructions of a pool that are most worth annotating.

    Args:
        run: What to choose from, how many, and how. Steps whose result is in the store are not made again.
        flow: Where the pieces of embedding and ranking run, and whether the run leaves a report.
    """
    hide_own_tracebacks()
    with cancellation.propagate_interrupt():
        result = pipeline.run(flow_context(run, flow))
        show_result(result)
        if not flow.no_report:
            show_report(result)
        return result.summary


if __name__ == "__main__":
    from flows.commands import selection_app
    from selectllm.cli.main import run_app

    sys.exit(run_app(selection_app(select_instructions)))
