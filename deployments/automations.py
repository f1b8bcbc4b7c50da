"""Makes the automations, or mends them: `python -m deployments.automations`. Needs the deployments to be there."""

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation, ChangeFlowRunState, EventTrigger, Posture, RunDeployment
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse

FLOW = "select-instructions"
POOL_CHANGED = "selectllm.pool-changed"
SILENCE = timedelta(seconds=90)
"""Three heartbeats missed: see PREFECT_FLOWS_HEARTBEAT_FREQUENCY in prefect.yaml."""


def crash_killed_runs() -> Automation:
    """A run whose process was killed says nothing any more, and would show as Running for ever: call it Crashed."""
    heartbeat = "prefect.flow-run.heartbeat"
    ends = ("Completed", "Failed", "Cancelled", "Cancelling", "Crashed", "AwaitingRetry", "Paused", "Suspended")
    return Automation(
        name="selectllm: killed runs are Crashed",
        description="A run of the flow that has sent no heartbeat for 90 seconds, and has not ended, was killed.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": FLOW},
            for_each={"prefect.resource.id"},
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{name}" for name in ends)},
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="No heartbeat for 90 seconds. Retry the run: it goes on where it was."
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


def ensure(wanted: Automation) -> str:
    """Make an automation, or mend the one of its name; returns what was done. One that was switched off stays off."""
    try:
        found = cast(Automation, Automation.read(name=wanted.name))  # outside a loop it is no coroutine
    except ValueError:
        wanted.create()
        return "made"
    wanted = wanted.model_copy(update={"id": found.id, "enabled": found.enabled})
    if _told(found) == _told(wanted):
        return "there already"  # a needless update would make it forget the runs that it is watching
    wanted.update()
    return "mended"


def _told(automation: Automation) -> dict[str, Any]:
    """What an automation does, without what the server adds."""
    return automation.model_dump(include={"name", "description", "enabled", "trigger", "actions"})


def main() -> None:
    """Make or mend all of them, and say so."""
    with get_client(sync_client=True) as client:
        on_demand = client.read_deployment_by_name(f"{FLOW}/on-demand")
    for wanted in (crash_killed_runs(), run_on_changed_pool(on_demand)):
        print(f"Automation {wanted.name!r}: {ensure(wanted)}")


if __name__ == "__main__":
    main()
