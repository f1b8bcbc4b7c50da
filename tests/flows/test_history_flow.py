"""Slots of a history that flow runs fill."""

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.selection import select_instructions
from selectllm.settings import RunSettings
from tasks.configuration import with_own_slot
from tests.flows.conftest import StateNames

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("is_scheduled", [True, False])
def test_a_slot_is_the_scheduled_time_or_the_run_id(
    is_scheduled: bool, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, flow_run_id = uuid4(), uuid4()
    flow_run = FlowRun(
        id=flow_run_id,
        flow_id=uuid4(),
        deployment_id=deployment,
        auto_scheduled=is_scheduled,
        expected_start_time=datetime(2026, 3, 1, 2, 0, tzinfo=UTC),
    )
    context = SimpleNamespace(flow_run=flow_run)
    monkeypatch.setattr("tasks.configuration.FlowRunContext", SimpleNamespace(get=lambda: context))
    slot = with_own_slot(make_run(history="nightly")).slot
    assert slot == (f"20260301T020000Z-{str(deployment)[:8]}" if is_scheduled else str(flow_run_id))
    assert with_own_slot(make_run(history="nightly", slot="monday")).slot == "monday"
    assert with_own_slot(make_run()).slot is None


@pytest.mark.usefixtures("quick_embedding")
def test_a_flow_run_fills_its_own_slot_and_a_filled_slot_is_only_published(
    make_run: MakeRun, task_states: Callable[[Any], StateNames]
) -> None:
    first = select_instructions(make_run(budget=4, history="nightly"), return_state=True)
    slot = str(first.state_details.flow_run_id)
    assert first.result()["selection"]["slot"] == slot
    again = select_instructions(make_run(budget=4, history="nightly", slot=slot), return_state=True)
    assert task_states(again) == {"publish": ["Completed"]}
    assert again.result()["artifacts"] == first.result()["artifacts"]
