"""A store of version 0.1.0 is read, and a run over it sends no request."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from selectllm import select
from selectllm.embedding.vector_cache import VectorCache
from selectllm.explain.explain import explain
from selectllm.llm.ledger import Ledger
from selectllm.llm.ledger_lines import Entry
from selectllm.llm.model import ModelInfo
from selectllm.settings import RunSettings
from selectllm.store import Artifact, Store
from selectllm.store.history import History
from selectllm.store.inventory import scan
from selectllm.store.pruning import prune
from selectllm.store.runs import list_runs, load_run
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import HashEmbedder

DATA = Path(__file__).parents[1] / "data" / "store-0.1.0"
EXPECTED = json.loads((DATA / "expected.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(DATA, tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(str(folder / "store"))


def settings(folder: Path, host: str, **fields: object) -> RunSettings:
    """The settings of the run that made the store, without its slot."""
    return RunSettings.model_validate(
        {
            "pool": str(folder / "pool.jsonl"),
            "budget": 7,
            "selector": "ollama:m",
            "store": str(folder / "store"),
            "queries": {"size": 5},
            "ranking": {"hosts": [host], "gather": "tiers"},
            "quality": {"no_validate": True},
            **fields,
        }
    )


def model_info(store: Store) -> ModelInfo:
    return ModelInfo(**(load_run(store).model or {}))


def test_old_run_records_are_read(store: Store) -> None:
    record = load_run(store)
    assert list_runs(store) == [record.run]
    assert (record.strategy, model_info(store).kind) == ("selectllm", "model")
    assert record.settings["history"] == "nightly"
    selection = record.artifact("selection")
    assert selection is not None
    assert store.read(selection)["id"].to_pylist() == EXPECTED["ids"]


def test_old_manifests_are_read_and_tables_are_intact(store: Store) -> None:
    infos = scan(store).artifacts
    assert len(infos) == 8
    for info in infos:
        assert info.damage is None
        assert info.manifest is not None
        assert info.manifest.code_version == 1
        assert info.manifest.content_key(info.artifact.kind) == info.artifact.key
        assert store.integrity_error(info.manifest) is None
        assert len(store.read(info.artifact)) == info.manifest.rows


def test_the_old_ledger_is_read_completely_and_names_no_question(store: Store) -> None:
    info = model_info(store)
    lines = [line for name in store.list(f"replies/{info.key}") for line in store.read_bytes(name).splitlines()]
    entries = [entry for entry in map(Entry.parse, lines) if entry]
    assert len(entries) == len(lines) == EXPECTED["asked"]
    ledger = Ledger(store, info)
    assert [ledger.get(entry.key) for entry in entries] == entries
    assert {entry.question for entry in entries} == {""}
    rankings = load_run(store).artifact("rankings")
    assert rankings is not None
    assert set(store.read(rankings)["reply"].to_pylist()) <= {entry.key for entry in entries}


def test_old_vectors_are_read(store: Store) -> None:
    embeddings = load_run(store).artifact("embeddings")
    assert embeddings is not None
    table = store.read(embeddings)
    (folder,) = store.list("vectors")
    vectors, known = VectorCache(store, folder.rsplit("/", 1)[-1]).gather(table["id"].to_pylist())
    assert known.all()
    assert np.array_equal(vectors, np.array(table["vector"].to_pylist(), dtype=np.float32))


def test_old_slots_are_read(store: Store) -> None:
    commit = History(store, "nightly").commits()["one"]
    assert list(commit.ids) == EXPECTED["ids"]
    assert load_run(store).artifact("selection") == Artifact(kind="selection", key=commit.selection)


@pytest.mark.parametrize("slot", [{}, {"history": "nightly", "slot": "one"}], ids=["no slot", "its slot"])
def test_a_run_over_an_old_store_reuses_everything_and_chooses_the_same_rows(
    slot: dict[str, str], folder: Path, quick_embedding: type[HashEmbedder]
) -> None:
    with FaultyOllama() as server:
        result = select(settings(folder, server.host, **slot))
        assert server.asked == []
    assert quick_embedding.texts == 0
    assert result.table()["id"].to_pylist() == EXPECTED["ids"]
    assert result.summary["ranking"]["abstained_questions"] == []


def test_old_vectors_and_replies_are_sufficient_for_a_run(
    folder: Path, store: Store, quick_embedding: type[HashEmbedder]
) -> None:
    for info in scan(store).artifacts:
        store.remove(info.artifact)
    with FaultyOllama() as server:
        result = select(settings(folder, server.host))
        assert server.asked == []
    assert quick_embedding.texts == 0
    assert result.table()["id"].to_pylist() == EXPECTED["ids"]


def test_old_rows_are_explained_by_their_replies(store: Store) -> None:
    for id in EXPECTED["ids"]:
        explanation = explain(store, id)
        assert explanation.decision.chosen
        assert [answer.used for answer in explanation.answers if answer.round == 0] == [True]
        assert len(explanation.rounds) == max(answer.round for answer in explanation.answers)


def test_pruning_an_old_store_keeps_the_inputs_of_its_selection(store: Store) -> None:
    assert prune(store, 0, dry_run=True).removed == ()
