"""Keys are sent to their own host and are written nowhere."""

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.variables import Variable

from flows.selection import select_instructions
from selectllm.llm import backoff
from selectllm.settings import RunSettings
from tests.flows.servers import SERVERS, VARIABLES, Server

KEY = "planted-key-4711"
PASSWORD = "planted-password-0815"
pytestmark = [pytest.mark.usefixtures("quick_embedding"), pytest.mark.filterwarnings("default")]


@pytest.fixture(params=SERVERS)
def planted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server named by the Variable, and its key in a Secret block."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    provider = request.param
    for name in VARIABLES[provider]:
        monkeypatch.delenv(name, raising=False)
    with SERVERS[provider]() as server:
        # OpenAI's client would send the password instead of the key.
        user = f"http://user:{PASSWORD}@" if provider == "ollama" else "http://"
        Variable.set(f"selectllm_{provider}_host", server.host.replace("http://", user), overwrite=True)
        Secret(value=KEY).save(f"selectllm-{provider}-api-key", overwrite=True)
        yield server
        Variable.unset(f"selectllm_{provider}_host")
        Secret.delete(f"selectllm-{provider}-api-key")


def test_an_api_key_is_sent_but_stored_nowhere(
    planted: Server,
    make_run: Callable[..., RunSettings],
    run_log: Callable[[Any, str], str],
    artifacts: Callable[[Any], dict[str, Any]],
    tmp_path: Path,
) -> None:
    importlib.import_module("sklearn")  # the first import sets a variable of its own
    before = dict(os.environ)
    settings = make_run(rows=40, budget=3, selector=planted.selector, out=str(tmp_path / "out"), history="h")
    finals = [select_instructions(settings, return_state=True)]
    assert finals[0].is_completed(), finals[0].message
    assert set(planted.keys) == {f"Bearer {KEY}"}
    planted.end()
    other = make_run(**{**settings.model_dump(exclude_unset=True), "seed": 1})
    finals.append(select_instructions(other, return_state=True))
    assert finals[1].is_failed()
    assert dict(os.environ) == before
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    recorded = "".join(str(final.message) + run_log(final, "Finished in state") for final in finals)
    with get_client(sync_client=True) as client:
        for final in finals:
            flow_run_id = final.state_details.flow_run_id
            recorded += "".join(str(artifact.data) for artifact in artifacts(final).values())
            recorded += client.read_flow_run(flow_run_id).model_dump_json()
            task_runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
            assert len(task_runs) > 2
            recorded += "".join(task_run.model_dump_json() for task_run in task_runs)
    for secret in (KEY, PASSWORD):
        assert secret.encode() not in written
        assert secret not in recorded
