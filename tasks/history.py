"""Chooses the slot of a history that a flow run fills."""

from prefect.context import FlowRunContext

from selectllm.settings import RunSettings
from selectllm.store.history import with_slot


def with_own_slot(settings: RunSettings) -> RunSettings:
    """The settings with the run's slot: its schedule's, else the flow run's own id. A retried run keeps either."""
    context = FlowRunContext.get()
    flow_run = context and context.flow_run
    if not flow_run:
        return with_slot(settings)
    if flow_run.auto_scheduled and flow_run.expected_start_time:
        # The id of the deployment keeps apart two deployments with the same history and the same scheduled time.
        time = f"{flow_run.expected_start_time:%Y%m%dT%H%M%SZ}"
        return with_slot(settings, f"{time}-{str(flow_run.deployment_id)[:8]}")
    return with_slot(settings, str(flow_run.id))
