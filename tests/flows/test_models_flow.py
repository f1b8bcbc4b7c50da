"""The flow with real models: over HTTP as with Ollama, and with the embedded demo on real instructions."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import uvicorn

from flows.selection import select_instructions
from selectllm import select
from selectllm.errors import SelectorUnavailable
from selectllm.llm.embedded import create_app
from selectllm.llm.weights import demo_weights
from selectllm.settings import RunSettings

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def weights() -> Path:
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    try:
        return demo_weights()
    except SelectorUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def host(weights: Path) -> Iterator[str]:
    """A real HTTP server on loopback that speaks Ollama's API."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(weights, name="smollm2:135m"), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.mark.usefixtures("quick_embedding")
def test_the_flow_drives_a_server_over_http(host: str, make_run: MakeRun) -> None:
    # One pick a query: a list of one number is all that a model of this size can be held to.
    run = make_run(
        rows=8, budget=2, selector="ollama:smollm2:135m", queries={"size": 4}, ranking={"hosts": [host], "depth": 1}
    )
    summary = select_instructions(run)
    assert summary["selection"] == {"budget": 2, "selected": 2, "excluded": 0}
    assert (summary["ranking"]["asked"], summary["ranking"]["ranked"], summary["ranking"]["abstained"]) == (2, 2, 0)
    assert summary["ranking"]["prompt_tokens"] > 500
    assert summary["model"]["kind"] == "model"
    assert summary["model"]["server_version"].startswith("embedded-")
    assert len(summary["model"]["digest"]) == 64
    again = select_instructions(run)
    assert (again["ranking"]["asked"], again["ranking"]["from_ledger"]) == (0, 2)


@pytest.mark.usefixtures("quick_embedding")
def test_an_unknown_model_names_the_command_that_gets_it(host: str, make_run: MakeRun) -> None:
    with pytest.raises(SelectorUnavailable, match=r"Get it with: ollama pull gemma2:27b"):
        select(make_run(selector="ollama:gemma2:27b", ranking={"hosts": [host]}))


@pytest.mark.slow
def test_the_demo_chooses_from_real_instructions(
    weights: Path, shared: Path, tmp_path: Path, make_run: MakeRun
) -> None:
    lines = (shared / "dolly_3k.jsonl").read_text(encoding="utf-8").split("\n")[:140]
    (tmp_path / "pool.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run = make_run(pool=str(tmp_path / "pool.jsonl"), budget=20, selector="embedded")
    result = select(run)
    kept = result.summary["pool"]["kept"]
    assert result.summary["ranking"]["asked"] == kept
    assert result.summary["model"]["kind"] == "demo"
    assert len(result.table()) == 20
    assert "tournament" not in result.summary["artifacts"], "scores leave nothing for it to decide"
    assert set(result.table("rankings")["score"].is_valid().to_pylist()) == {True}
    again = select(run)
    assert again.summary["ranking"]["asked"] == 0
    assert again.table().equals(result.table())
