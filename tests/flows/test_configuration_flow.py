"""Sources of settings that a run leaves open, and the keys that each host receives."""

import json
import os
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.variables import Variable

from flows.selection import select_instructions
from selectllm.errors import UsageError
from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings
from selectllm.execution import WorkItem
from selectllm.llm.keys import Provider, ProviderKey
from selectllm.llm.model import ModelInfo
from selectllm.ranking.batches import Query
from selectllm.ranking.prompts import Candidate
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.steps.model import Job, check_model, longest_request
from selectllm.steps.rank import Batch, rank_batch
from selectllm.store import Store
from selectllm.testing.faulty_ollama import DIGEST, MODEL
from tasks.configuration import with_flow_environment, with_own_store
from tasks.keys import load_keys
from tests.flows.servers import SERVERS, VARIABLES, Server, ollama_server

MakeRun = Callable[..., RunSettings]
Define = Callable[..., None]
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def define() -> Iterator[Define]:
    """Sets Variables, or the key of a Secret block, during the test."""
    variables, blocks = set[str](), set[str]()

    def define(*, secret: str | None = None, **values: Any) -> None:
        for name, value in values.items():
            Variable.set(name, value, overwrite=True)
            variables.add(name)
        if secret:
            provider, key = secret.split(" ")
            Secret(value=key).save(f"selectllm-{provider}-api-key", overwrite=True)
            blocks.add(f"selectllm-{provider}-api-key")

    yield define
    for name in variables:
        Variable.unset(name)
    for name in blocks:
        Secret.delete(name)


@pytest.fixture(autouse=True)
def nothing_defined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for names in (*VARIABLES.values(), ("OPENAI_ORG_ID",)):
        for name in names:
            monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("quick_embedding")
def test_the_form_overrides_the_environment_and_the_environment_overrides_variables(
    make_run: MakeRun, define: Define, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ollama_server() as environments, ollama_server() as variables:
        explicit = make_run(rows=24, budget=2, seed=1, selector=environments.selector).model_dump(exclude_unset=True)
        del explicit["store"]
        monkeypatch.setenv("SELECTLLM_SEED", "2")
        monkeypatch.setenv("SELECTLLM_QUERIES__SIZE", "12")
        monkeypatch.setenv("OLLAMA_HOST", environments.host)
        (tmp_path / ".env").write_text(
            "SELECTLLM_SEED=3\nSELECTLLM_QUERIES__SIZE=6\nSELECTLLM_RANKING__DEPTH=2\n", encoding="utf-8"
        )
        define(selectllm_store=str(tmp_path / "variable"), selectllm_ollama_host=variables.host)
        select_instructions(RunSettings.model_validate(explicit))
        assert environments.keys
        assert not variables.keys, "the environment names a host"
    record = json.loads((tmp_path / "variable" / "v1" / "latest" / "selection.json").read_bytes())["settings"]
    assert (record["seed"], record["queries"]["size"], record["ranking"]["depth"]) == (1, 12, 2)
    assert record["ranking"]["passes"] == 1


def test_the_store_comes_from_the_highest_source_that_names_it(
    define: Define, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def store(**explicit: str) -> str:
        return Path(with_flow_environment(RunSettings(pool="p", budget=1, **explicit)).store).name  # type: ignore[arg-type]

    assert store() == "artifacts"
    define(selectllm_store="variable")
    assert store() == "variable"
    (tmp_path / ".env").write_text("SELECTLLM_STORE=file\n", encoding="utf-8")
    assert store() == "file"
    monkeypatch.setenv("SELECTLLM_STORE", "environment")
    assert store() == "environment"
    assert store(store="form") == "form"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("selectllm_store", 5, "int"),
        ("selectllm_store", 0, "int"),
        (
            "selectllm_ollama_host",
            ["http://gpu1:11434", "http://gpu2:11434"],
            r"list\. Several hosts .* hosts in its form",
        ),
        ("selectllm_openai_host", {"url": "http://gpu1/v1"}, "dict"),
    ],
)
def test_a_variable_that_is_no_text_is_named(define: Define, name: str, value: Any, kind: str) -> None:
    selector = "openai:m" if "openai" in name else "ollama:m"
    settings = RunSettings(pool="p", budget=1, selector=selector)
    define(**{name: value})
    with pytest.raises(UsageError, match=f"Prefect's Variable {name} must be a text in quotes, and is a {kind}"):
        with_flow_environment(settings)
    if name.endswith("_host"):
        with pytest.raises(UsageError, match=f"Prefect's Variable {name} must be a text"):
            load_keys(settings)


def test_a_judge_that_the_environment_names_is_asked_in_batches_if_the_form_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form = AlpacaEvalSettings(outputs="a.json", baseline="b.json", ranking={"batch": True})  # type: ignore[arg-type]
    monkeypatch.setenv("SELECTLLM_SELECTOR", "openai:judge")
    run = with_flow_environment(with_own_store(form).run())
    assert (run.selector, run.ranking.batch) == ("openai:judge", True)
    monkeypatch.setenv("SELECTLLM_SELECTOR", "ollama:judge")
    with pytest.raises(UsageError, match=r"ollama:judge takes no batches\. The environment names it"):
        with_own_store(form)


@pytest.mark.parametrize("provider", SERVERS)
def test_a_key_goes_only_to_its_own_host(
    provider: Provider, define: Define, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_name, host_name = VARIABLES[provider]
    with SERVERS[provider]() as first, SERVERS[provider]() as second:

        def sent(*hosts: str) -> tuple[set[str], set[str]]:
            """The keys that each server received from a run that names `hosts`."""
            first.keys.clear()
            second.keys.clear()
            before = dict(os.environ)
            settings = with_flow_environment(make_run(selector=first.selector, ranking={"hosts": hosts}))
            check_model(Context(settings, Store(settings.store), load_keys=partial(load_keys, settings)))
            assert dict(os.environ) == before
            return keys_of(first), keys_of(second)

        none = set[str]()
        define(**{f"selectllm_{provider}_host": first.host})
        monkeypatch.setenv(key_name, "environment's")
        assert sent() == ({"no key"}, none), "the environment's key is not for the Variable's host"
        define(secret=f"{provider} block's")
        assert sent() == ({"block's"}, none)
        monkeypatch.delenv(key_name)
        assert sent() == ({"block's"}, none)
        assert sent(first.host) == ({"block's"}, none), "named again by the run itself, it is the same host"
        assert sent(second.host) == (none, {"no key"})
        monkeypatch.setenv(host_name, second.host)
        assert sent() == (none, {"no key"}), "the block's key is not for the environment's host"
        monkeypatch.setenv(key_name, "environment's")
        assert sent() == (none, {"environment's"})
        monkeypatch.delenv(host_name)
        define(**{f"selectllm_{provider}_host": second.host}, secret=f"{provider} new")
        assert sent() == (none, {"new"}), "the same process, after both were changed"


def keys_of(server: Server) -> set[str]:
    return {key.removeprefix("Bearer ") if key not in ("", "Bearer no-key") else "no key" for key in server.keys}


def test_without_a_variable_a_secret_block_applies_to_the_default_host(
    define: Define, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run(selector="openai:m")
    define(secret="openai block's")
    monkeypatch.setenv("OPENAI_ORG_ID", "ours")
    assert load_keys(settings).openai == ProviderKey("block's", "", organization="ours")
    define(selectllm_openai_host="http://gpu1/v1")
    # The organization belongs to another host.
    assert load_keys(settings).openai == ProviderKey("block's", "http://gpu1/v1")


def test_a_remote_worker_receives_the_key(define: Define, make_run: MakeRun) -> None:
    candidates = tuple(Candidate(f"{number:02}", f"Task {number}") for number in range(4))
    model = ModelInfo(f"ollama:{MODEL}", MODEL, DIGEST, "1", "model", "listwise")
    with ollama_server() as server:
        define(selectllm_ollama_host=server.host, secret="ollama block's")
        settings = make_run(selector=server.selector, ranking={"hosts": [server.host]})  # as the flow hands it on
        job = Job("rankings", model, 1, longest_request(candidates, settings, model.mode, model.think))
        piece = partial(rank_batch, settings, partial(load_keys, settings))
        item = WorkItem(Batch(job, (Query(0, candidates, 0),)), share=1)
        sent = pickle.dumps((piece, item))
        assert b"block's" not in sent
        piece, item = pickle.loads(sent)
        ranks, _ = piece(item)
        assert len(ranks.ranks) == 3
        assert keys_of(server) == {"block's"}
