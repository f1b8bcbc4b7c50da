"""Keys go to the host that they are for, and to nothing that is written down."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.variables import Variable

from flows.selection import select_instructions
from selectllm.settings import RunSettings
from tests.faulty_ollama import FaultyOllama

KEY = "planted-key-4711"
PASSWORD = "planted-password-0815"
pytestmark = [pytest.mark.usefixtures("quick_embedding"), pytest.mark.filterwarnings("default")]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyOllama]:
    """A server that the Variable names, and a key for it in a Secret block."""
    for name in ("OLLAMA_API_KEY", "OLLAMA_HOST"):
        monkeypatch.setenv(name, "")  # so that what the flow sets is unset in the end
    with FaultyOllama() as server:
        Variable.set(
            "selectllm_ollama_host", server.host.replace("http://", f"http://user:{PASSWORD}@"), overwrite=True
        )
        Secret(value=KEY).save("selectllm-ollama-api-key", overwrite=True)
        yield server
        Variable.unset("selectllm_ollama_host")
        Secret.delete("selectllm-ollama-api-key")


def test_a_planted_key_is_found_nowhere(
    planted: FaultyOllama, make_run: Callable[..., RunSettings], run_log: Callable[[Any, str], str], tmp_path: Path
) -> None:
    run = make_run(rows=40, budget=3, selector=f"ollama:{planted.model}", out=str(tmp_path / "out"), history="h")
    finals = [select_instructions(run, return_state=True)]
    assert finals[0].is_completed(), finals[0].message
    assert planted.asked, "the Variable names the server"
    planted.pause()
    finals.append(select_instructions(make_run(**{**run.model_dump(exclude_unset=True), "seed": 1}), return_state=True))
    assert finals[1].is_failed()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    told = "".join(str(final.message) + run_log(final, "Finished in state") for final in finals)
    with get_client(sync_client=True) as client:
        for final in finals:
            ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[final.state_details.flow_run_id]))
            told += "".join(str(one.data) for one in client.read_artifacts(artifact_filter=ours))
            told += client.read_flow_run(final.state_details.flow_run_id).model_dump_json()
    for secret in (KEY, PASSWORD):
        assert secret.encode() not in written
        assert secret not in told


def test_the_store_comes_from_a_variable(make_run: Callable[..., RunSettings], tmp_path: Path) -> None:
    given = make_run(rows=40, budget=3).model_dump(exclude_unset=True)
    given.pop("store")
    Variable.set("selectllm_store", str(tmp_path / "named"), overwrite=True)
    try:
        select_instructions(RunSettings.model_validate(given))
        assert (tmp_path / "named" / "v1" / "latest" / "selection.json").is_file()
    finally:
        Variable.unset("selectllm_store")
