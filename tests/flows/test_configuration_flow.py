"""What a run leaves open: where it comes from, and which key goes to which host."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from prefect.blocks.system import Secret
from prefect.variables import Variable
from tasks.rankings import rank_piece

from flows.selection import select_instructions
from selectllm import steps
from selectllm.llm.model import ModelInfo
from selectllm.ranking.batches import Query
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.stats import RequestStats
from selectllm.settings import RunSettings
from selectllm.steps import Batch
from selectllm.testing.faulty_ollama import DIGEST, MODEL
from tasks.configuration import configuration
from tasks.keys import KINDS, key_for
from tasks.runners import WorkItem
from tests.flows.servers import SERVERS, Server, ollama_server

MakeRun = Callable[..., RunSettings]
Name = Callable[..., None]
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def named() -> Iterator[Name]:
    """Names a Variable, or the key of a Secret block, for as long as the test lasts."""
    variables, blocks = set[str](), set[str]()

    def name(*, secret: str | None = None, **values: str) -> None:
        for variable, value in values.items():
            Variable.set(variable, value, overwrite=True)
            variables.add(variable)
        if secret:
            kind, key = secret.split(" ")
            Secret(value=key).save(f"selectllm-{kind}-api-key", overwrite=True)
            blocks.add(f"selectllm-{kind}-api-key")

    yield name
    for variable in variables:
        Variable.unset(variable)
    for block in blocks:
        Secret.delete(block)


@pytest.fixture(autouse=True)
def nothing_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in KINDS.values():
        for name in (kind.key, kind.host, "OPENAI_ORG_ID"):
            monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("quick_embedding")
def test_the_form_counts_before_the_environment_and_so_on_down(
    make_run: MakeRun, named: Name, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ollama_server() as environments, ollama_server() as variables:
        given = make_run(rows=24, budget=2, seed=1, selector=environments.selector).model_dump(exclude_unset=True)
        del given["store"]
        monkeypatch.setenv("SELECTLLM_SEED", "2")
        monkeypatch.setenv("SELECTLLM_QUERIES__SIZE", "12")
        monkeypatch.setenv("OLLAMA_HOST", environments.host)
        (tmp_path / ".env").write_text(
            "SELECTLLM_SEED=3\nSELECTLLM_QUERIES__SIZE=6\nSELECTLLM_RANKING__DEPTH=2\n", encoding="utf-8"
        )
        named(selectllm_store=str(tmp_path / "variable"), selectllm_ollama_host=variables.host)
        select_instructions(RunSettings.model_validate(given))
        assert environments.keys
        assert not variables.keys, "the environment names a host"
    record = json.loads((tmp_path / "variable" / "v1" / "latest" / "selection.json").read_bytes())["settings"]
    assert (record["seed"], record["queries"]["size"], record["ranking"]["depth"]) == (1, 12, 2)
    assert record["ranking"]["passes"] == 1


def test_the_store_is_the_topmost_that_is_named(named: Name, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def store(**given: str) -> str:
        with configuration(RunSettings.model_validate({"pool": "p", "budget": 1, **given})) as run:
            return Path(run.store).name

    assert store() == "artifacts"
    named(selectllm_store="variable")
    assert store() == "variable"
    (tmp_path / ".env").write_text("SELECTLLM_STORE=file\n", encoding="utf-8")
    assert store() == "file"
    monkeypatch.setenv("SELECTLLM_STORE", "environment")
    assert store() == "environment"
    assert store(store="form") == "form"


@pytest.mark.parametrize("kind", SERVERS)
def test_a_key_goes_to_the_host_that_it_is_for(
    kind: str, named: Name, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SERVERS[kind]() as one, SERVERS[kind]() as other:

        def sent(*hosts: str) -> tuple[set[str], set[str]]:
            """The keys that either server was sent by a run that names `hosts`."""
            one.keys.clear()
            other.keys.clear()
            before = dict(os.environ)
            with configuration(make_run(selector=one.selector, ranking={"hosts": hosts})) as run:
                asyncio.run(steps.check_model(run))
            assert dict(os.environ) == before
            return _keys(one), _keys(other)

        none = set[str]()
        named(**{f"selectllm_{kind}_host": one.host})
        monkeypatch.setenv(KINDS[kind].key, "environment's")
        assert sent() == ({"no key"}, none), "the environment's key is not for the Variable's host"
        named(secret=f"{kind} block's")
        assert sent() == ({"block's"}, none)
        monkeypatch.delenv(KINDS[kind].key)
        assert sent() == ({"block's"}, none)
        assert sent(one.host) == ({"block's"}, none), "named again by the run itself, it is the same host"
        assert sent(other.host) == (none, {"no key"})
        monkeypatch.setenv(KINDS[kind].host, other.host)
        assert sent() == (none, {"no key"}), "the block's key is not for the environment's host"
        monkeypatch.setenv(KINDS[kind].key, "environment's")
        assert sent() == (none, {"environment's"})
        monkeypatch.delenv(KINDS[kind].host)
        named(**{f"selectllm_{kind}_host": other.host}, secret=f"{kind} new")
        assert sent() == (none, {"new"}), "the same process, after both were changed"


def _keys(server: Server) -> set[str]:
    return {key.removeprefix("Bearer ") if key not in ("", "Bearer no-key") else "no key" for key in server.keys}


def test_without_a_variable_the_blocks_key_is_for_the_usual_host(
    named: Name, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(selector="openai:m")
    named(secret="openai block's")
    monkeypatch.setenv("OPENAI_ORG_ID", "ours")
    with key_for(run):
        assert (os.environ["OPENAI_API_KEY"], os.environ["OPENAI_ORG_ID"]) == ("block's", "ours")
    named(selectllm_openai_host="http://gpu1/v1")
    with key_for(run):
        assert (os.environ["OPENAI_API_KEY"], os.environ["OPENAI_BASE_URL"]) == ("block's", "http://gpu1/v1")
        assert "OPENAI_ORG_ID" not in os.environ, "it was given for another host"
        with key_for(run):
            pass
        assert os.environ["OPENAI_API_KEY"] == "block's", "a task that shares the process may still want it"
    assert "OPENAI_API_KEY" not in os.environ
    assert os.environ["OPENAI_ORG_ID"] == "ours"


def test_a_worker_of_another_machine_gets_the_key_itself(named: Name, make_run: MakeRun) -> None:
    def queries() -> Sequence[Query]:
        return [Query(0, tuple(Candidate(f"{number:02}", f"Task {number}") for number in range(4)))]

    card = ModelInfo(f"ollama:{MODEL}", MODEL, DIGEST, "1", "model", "listwise")
    with ollama_server() as server:
        named(selectllm_ollama_host=server.host, secret="ollama block's")
        run = make_run(selector=server.selector, ranking={"hosts": [server.host]})  # as the flow hands it on
        ranked = rank_piece.fn(run, WorkItem(Batch(card, tuple(queries()), 1000, 1, RequestStats()), share=1))
        assert len(ranked.ranks) == 3
        assert _keys(server) == {"block's"}
    assert "OLLAMA_API_KEY" not in os.environ
