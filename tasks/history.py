"""Which slot of a history a flow run fills, and what it holds already."""

from prefect.context import FlowRunContext

from selectllm import steps
from selectllm.llm import ModelInfo
from selectllm.settings import RunSettings
from selectllm.steps import StepResult
from selectllm.store import Store
from selectllm.store.history import with_slot


def with_own_slot(run: RunSettings) -> RunSettings:
    """The run with its slot: that of its schedule, else the flow run's own id. A retried run keeps either."""
    context = FlowRunContext.get()
    flow_run = context and context.flow_run
    if not flow_run:
        return with_slot(run)
    if flow_run.auto_scheduled and flow_run.expected_start_time:
        # With the deployment's id: two that share a history, and a time, must not take each other's rows for theirs.
        time = f"{flow_run.expected_start_time:%Y%m%dT%H%M%SZ}"
        return with_slot(run, f"{time}-{str(flow_run.deployment_id)[:8]}")
    return with_slot(run, str(flow_run.id))


def find_committed(run: RunSettings) -> tuple[ModelInfo, list[StepResult | None]] | None:
    """What the run's slot holds already: a run again for the same slot has only to publish that."""
    return steps.find_committed(Store(run.store), run)
