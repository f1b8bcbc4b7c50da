"""A store that version 0.1.0 wrote: what was paid for is read, and a run over it asks nothing."""

import json
import shutil
from pathlib import Path

import pytest

from selectllm import select
from selectllm.explain.explain import explain
from selectllm.settings import RunSettings
from selectllm.store import Store
from selectllm.store.runs import list_runs, load_run
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import HashEmbedder

DATA = Path(__file__).parents[1] / "data" / "store-0.1.0"
EXPECTED = json.loads((DATA / "expected.json").read_text())


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    shutil.copytree(DATA, tmp_path / "old")
    return tmp_path / "old"


def settings(folder: Path, host: str = "", **fields: object) -> RunSettings:
    """The settings of the run that made the store."""
    return RunSettings.model_validate(
        {
            "pool": str(folder / "pool.jsonl"),
            "budget": 7,
            "selector": "ollama:m",
            "store": str(folder / "store"),
            "queries": {"size": 5},
            "ranking": {"hosts": [host] if host else []},
            "quality": {"no_validate": True},
            **fields,
        }
    )


def test_its_run_record_is_read(old_store: Path) -> None:
    store = Store(str(old_store / "store"))
    record = load_run(store)
    assert list_runs(store) == [record.run]
    assert record.strategy == "selectllm"
    assert record.model is not None
    assert record.model["kind"] == "model"
    selection = record.artifact("selection")
    assert selection is not None
    assert store.read(selection)["id"].to_pylist() == EXPECTED["ids"]
    manifest = store.manifest(selection)
    assert manifest is not None
    assert manifest.code_version == 1


def test_a_run_over_it_asks_nothing_embeds_nothing_and_chooses_the_same_rows(
    old_store: Path, quick_embedding: type[HashEmbedder]
) -> None:
    with FaultyOllama() as server:
        result = select(settings(old_store, server.host))
        assert server.asked == []
    assert quick_embedding.texts == 0
    assert result.table()["id"].to_pylist() == EXPECTED["ids"]
    assert result.summary["ranking"]["from_ledger"] == EXPECTED["asked"]


def test_its_slot_still_holds_its_rows(old_store: Path, quick_embedding: type[HashEmbedder]) -> None:
    result = select(settings(old_store, history="nightly", slot="one", out=str(old_store / "out")))
    assert result.table()["id"].to_pylist() == EXPECTED["ids"]
    assert result.summary["ranking"]["abstained_questions"] == []


def test_its_rows_are_explained(old_store: Path) -> None:
    explanation = explain(Store(str(old_store / "store")), EXPECTED["ids"][0])
    assert explanation.decision.chosen
    assert [answer.used for answer in explanation.answers if answer.round == 0] == [True]
