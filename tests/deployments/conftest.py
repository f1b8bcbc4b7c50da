"""Prefect servers, one per session or one per module, and their clients."""

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
    """A folder for a server that only one module uses."""
    folder = Path(tempfile.mkdtemp(prefix="selectllm-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(shared_environment: Environment) -> Environment:
    """The environment of clients of the session's server. Each module deploys to it again."""
    return shared_environment


@pytest.fixture
def client(environment: Environment) -> Iterator[SyncPrefectClient]:
    """A client of that server. Prefect's own code in this process uses the same server."""
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def state_when(client: SyncPrefectClient) -> Callable[..., State[Any]]:
    """Wait until the state of a flow run fulfils a condition, and return it."""

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
    """Run in the checkout, as `make` does, without SELECTLLM_ variables of the person who runs the tests."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    for name in [name for name in os.environ if name.startswith("SELECTLLM_")]:
        monkeypatch.delenv(name)
