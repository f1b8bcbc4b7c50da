"""The session's Prefect server, or one of a module's own, and the clients' side of it."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local import Environment


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder for a server of a module's own."""
    folder = Path(tempfile.mkdtemp(prefix="selectllm-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(shared_environment: Environment) -> Environment:
    """The environment of the clients of the session's server, to which each module deploys anew."""
    return shared_environment


@pytest.fixture
def client(environment: Environment) -> Iterator[SyncPrefectClient]:
    """A client of that server; code of Prefect's in this process uses the same one."""
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def state_when(client: SyncPrefectClient) -> Callable[..., State[Any]]:
    """The state of a flow run, once it is as awaited."""

    def state_when(flow_run_id: UUID, awaited: Callable[[State[Any]], bool], seconds: float) -> State[Any]:
        end = time.monotonic() + seconds
        while True:
            state = client.read_flow_run(flow_run_id).state
            if state and awaited(state):
                return state
            assert time.monotonic() < end, state
            time.sleep(0.5)

    return state_when


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make` runs: in the checkout, with no settings of whoever runs the tests."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    for name in [name for name in os.environ if name.startswith("SELECTLLM_")]:
        monkeypatch.delenv(name)
