"""Creates or updates the automations: `python -m deployments.automations`. The deployments must exist."""

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation, ChangeFlowRunState, EventTrigger, Posture, RunDeployment
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse

FLOW = "select-instructions"
WATCHED = (
    FLOW, "compare-selections", "compare-cell",
    "assess-answers", "assess-model", "assess-mt-bench", "answer-mt-bench", "assess-alpaca-eval",
)  # fmt: skip
"""The flows of prefect.yaml, and their subflows, each run of which sends heartbeats of its own."""
POOL_CHANGED = "selectllm.pool-changed"
SILENCE = timedelta(seconds=90)
"""Three heartbeats missed: see PREFECT_FLOWS_HEARTBEAT_FREQUENCY in prefect.yaml."""


def crash_killed_runs() -> Automation:
    """Mark killed runs as Crashed. A killed process sends no state, so its run would show as Running for ever."""
    heartbeat = "prefect.flow-run.heartbeat"
    ends = (
        "Completed", "Cached", "Failed", "Cancelled", "Cancelling", "Crashed", "AwaitingRetry", "Paused", "Suspended",
    )  # fmt: skip
    return Automation(
        name="selectllm: killed runs are Crashed",
        description="A run that has sent no heartbeat for 90 seconds, and has not ended, was killed.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(WATCHED)},
            for_each={"prefect.resource.id"},
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{name}" for name in ends)},
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="No heartbeat for 90 seconds. Retry the run: it continues."
            )
        ],
    )


def run_on_changed_pool(on_demand: DeploymentResponse) -> Automation:
    """An event that names a pool's file starts a run over it, with the other settings of `on-demand`."""
    path = {"__prefect_kind": "jinja", "template": "{{ event.payload.path }}"}
    return Automation(
        name="selectllm: a changed pool is chosen from",
        description=f"An event {POOL_CHANGED}, whose payload names the file as `path`, starts on-demand.",
        trigger=EventTrigger(expect={POOL_CHANGED}, threshold=1, within=timedelta(0)),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=on_demand.id,
                parameters=on_demand.parameters | {"run": on_demand.parameters["run"] | {"pool": path}},
            )
        ],
    )


def ensure(automation: Automation) -> str:
    """Create an automation, or update the one of the same name; returns which. A disabled one stays disabled."""
    try:
        existing = cast(Automation, Automation.read(name=automation.name))  # outside a loop it is no coroutine
    except ValueError:
        automation.create()
        return "made"
    automation = automation.model_copy(update={"id": existing.id, "enabled": existing.enabled})
    if _own_fields(existing) == _own_fields(automation):
        return "there already"  # an update would reset the list of runs that it watches
    automation.update()
    return "mended"


def _own_fields(automation: Automation) -> dict[str, Any]:
    """The fields of an automation that we set, without those the server adds."""
    return automation.model_dump(include={"name", "description", "enabled", "trigger", "actions"})


def main() -> None:
    """Create or update all automations, and print what was done."""
    with get_client(sync_client=True) as client:
        on_demand = client.read_deployment_by_name(f"{FLOW}/on-demand")
    for automation in (crash_killed_runs(), run_on_changed_pool(on_demand)):
        print(f"Automation {automation.name!r}: {ensure(automation)}")


if __name__ == "__main__":
    main()
