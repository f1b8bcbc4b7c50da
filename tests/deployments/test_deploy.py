"""Repeated deployment to a real server, and an event that starts a run."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import automations, work_pools
from deployments.local import Environment, server
from deployments.steps import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
DEPLOY = (("deployments.work_pools",), ("prefect", "--no-prompt", "deploy", "--all"), ("deployments.automations",))


@pytest.fixture(scope="module")
def environment(home: Path) -> Iterator[Environment]:
    """The environment of the clients of a new server, started as by `make serve`."""
    with server(home / "prefect") as environment:
        yield environment


FLOWS = {
    "flows/comparison.py:compare_selections": "comparison ",
    "flows/assessment.py:assess_answers": "overlap ",
    "flows/assessment.py:assess_mt_bench": "MT-Bench ",
    "flows/assessment.py:assess_alpaca_eval": "AlpacaEval ",
}
"""What tells deployments of one name apart, by their entry points."""


def module(environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


def deploy(environment: Environment) -> str:
    """Run the commands of `make deploy`; returns their output."""
    return "".join(module(environment, *command).stdout for command in DEPLOY)


def deployed(client: SyncPrefectClient) -> dict[str, Any]:
    """Everything deployed, as the server reports it, without update times."""
    entries = {
        kind: client.request("POST", f"/{kind}/filter", json={}).json()
        for kind in ("deployments", "work_pools", "automations", "v2/concurrency_limits")
    }
    return {
        f"{kind} {FLOWS.get(entry.get('entrypoint'), '')}{entry['name']}": _without_times(entry)
        for kind, listed in entries.items()
        for entry in listed
    }


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(field) for name, field in value.items() if name not in ("updated", "status")}
    return sorted(map(_without_times, value), key=repr) if isinstance(value, list) else value


def test_the_makefile_runs_the_tested_deploy_commands() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ndeploy:")[1].split("\n\n")[0]
    assert recipe.splitlines()[1:] == [f"\t$(BIN)/python -m {' '.join(command)}" for command in DEPLOY]


def test_deploying_again_changes_nothing(environment: Environment, client: SyncPrefectClient) -> None:
    output = deploy(environment)
    assert output.count(": made") == 3
    first = deployed(client)
    nightly, on_demand = first["deployments nightly"], first["deployments on-demand"]
    (schedule,) = nightly["schedules"]
    assert schedule["active"] is False, "no run starts before a person switches the schedule on"
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert on_demand["parameters"]["run"]["selector"] == "embedded"
    assert first["deployments comparison on-demand"]["parameters"]["comparison"]["budgets"] == [20]
    assert first["deployments MT-Bench on-demand"]["parameters"] == {}
    assert first["work_pools selectllm"]["concurrency_limit"] == 4

    # A person can do the same on the pages of the server.
    client.request("PATCH", f"/deployments/{nightly['id']}/schedules/{schedule['id']}", json={"active": True})
    watching = first[f"automations {automations.crash_killed_runs().name}"]
    client.request("PATCH", f"/automations/{watching['id']}", json={"enabled": False})
    client.request("PATCH", "/work_pools/selectllm", json={"concurrency_limit": 2})
    switched = deployed(client)
    assert switched != first

    assert deploy(environment).count("there already") == 3
    assert deployed(client) == switched
    assert switched["deployments nightly"]["schedules"][0]["active"] is True


def test_deploying_again_mends_an_automation_of_an_earlier_version(
    environment: Environment, client: SyncPrefectClient
) -> None:
    name = automations.crash_killed_runs().name
    before = deployed(client)[f"automations {name}"]
    flow = {"prefect.resource.role": "flow", "prefect.resource.name": "select-instructions"}
    earlier = {"name": name, "actions": before["actions"], "enabled": before["enabled"]}
    earlier["trigger"] = before["trigger"] | {"match_related": flow}
    client.request("PUT", f"/automations/{before['id']}", json=earlier)
    assert deployed(client)[f"automations {name}"] != before

    assert f"{name!r}: mended" in module(environment, *DEPLOY[-1]).stdout
    after = deployed(client)[f"automations {name}"]
    assert after["trigger"].pop("id") != before["trigger"].pop("id")
    assert after == before


def test_an_event_starts_a_run_over_its_named_pool(
    environment: Environment, client: SyncPrefectClient, tmp_path: Path
) -> None:
    pool = str(tmp_path / 'pööl of "today".jsonl')
    for payload in ({}, {"path": pool}):  # the first names no pool, and starts no run
        name = ["--resource-id", "selectllm.pool.main", "--payload", json.dumps(payload)]
        module(environment, "prefect", "event", "emit", automations.POOL_CHANGED, *name)
    on_demand = client.read_deployment_by_name("select-instructions/on-demand")
    end = time.monotonic() + 30
    while not (runs := [run for run in client.read_flow_runs() if run.deployment_id == on_demand.id]):
        assert time.monotonic() < end
        time.sleep(0.5)
    assert len(runs) == 1
    assert runs[0].parameters == {"run": on_demand.parameters["run"] | {"pool": pool}}
    assert runs[0].state is not None
    assert runs[0].state.is_scheduled()


@pytest.mark.parametrize(
    ("url", "message"), [("http://127.0.0.1:9/api", "No server answers at"), (None, "Which server")]
)
def test_a_missing_server_is_one_error_line_that_says_what_to_do(url: str | None, message: str) -> None:
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(SystemExit, match=f"{message}.*`make serve`"),
    ):
        asyncio.run(work_pools.main())


@pytest.mark.parametrize("part", ["http://", "/api"])
def test_a_url_that_lacks_a_part_is_one_error_line(part: str, environment: Environment) -> None:
    with (
        temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"].replace(part, "")}),
        pytest.raises(SystemExit, match="begins with http:// or https:// and ends with /api"),
    ):
        asyncio.run(work_pools.main())


def test_a_server_with_a_password_is_one_error_line(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    url = environment["PREFECT_API_URL"]

    async def refuse(*_: object) -> None:
        request = httpx.Request("POST", url)
        raise httpx.HTTPStatusError("401", request=request, response=httpx.Response(401, request=request))

    monkeypatch.setattr(work_pools, "ensure", refuse)
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(SystemExit, match=r"wants a password.*PREFECT_API_AUTH_STRING"),
    ):
        asyncio.run(work_pools.main())
