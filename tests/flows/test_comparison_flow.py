"""The flow of a comparison: each cell is a subflow, and what the store has is Cached."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.commands import comparison_app
from flows.comparison import compare_selections
from selectllm.cli.main import run_app
from selectllm.comparison.compare import compare
from selectllm.comparison.settings import ComparisonSettings
from selectllm.comparison.text import as_record

pytestmark = [
    pytest.mark.usefixtures("quick_embedding"),
    pytest.mark.filterwarnings("default"),  # Prefect's own code warns under Python 3.11 and later; ours must not
]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ComparisonSettings:
    monkeypatch.setattr("selectllm.comparison.cells.REFERENCE_SEEDS", 2)  # each cell of a flow takes seconds
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps({"instruction": f"Explain {i}" * (i % 5 + 1)}) + "\n" for i in range(20)))
    return ComparisonSettings(
        pool=str(pool),
        budgets=(4,),
        strategies=("longest", "selectllm"),
        selectors=("scripted:first",),
        seeds=2,
        store=str(tmp_path / "store"),
        quality={"no_validate": True},  # type: ignore[arg-type]
    )


def values(record: dict[str, Any]) -> list[Any]:
    rows = [row for row in record["estimates"] if row["measure"] != "seconds"]
    return [(row["strategy"], row["measure"], row["mean"], row["verdict"]) for row in rows]


def test_the_flow_compares_like_the_library_and_a_second_run_finds_all_cells(
    settings: ComparisonSettings,
    tmp_path: Path,
    subflow_states: Callable[[Any], dict[str, str]],
    artifacts: Callable[[Any], dict[str, Any]],
) -> None:
    final = compare_selections(settings, return_state=True)
    apart = settings.model_copy(update={"store": str(tmp_path / "another store")})
    assert values(final.result()) == values(as_record(compare(apart)))
    states = subflow_states(final)
    assert set(states) == {
        "random, 4 rows, seed 0",
        "random, 4 rows, seed 1",
        "longest, 4 rows, seed 0",
        "selectllm by scripted:first, 4 rows, seed 0",
        "selectllm by scripted:first, 4 rows, seed 1",
    }
    assert set(states.values()) == {"Completed"}
    assert "| longest |" in str(artifacts(final)["comparison"].data)
    again = compare_selections(settings, return_state=True)
    assert set(subflow_states(again).values()) == {"Cached"}
    assert values(again.result()) == values(final.result())


def test_the_command_prints_what_was_measured(settings: ComparisonSettings, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [settings.pool, "--budgets", "4", "--strategies", "longest", "--seeds", "2", "--store", settings.store]
    assert run_app(comparison_app(compare_selections), [*arguments, "--no-validate", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["cells"] == 3
    assert printed["failed"] == []
    assert run_app(comparison_app(compare_selections), [*arguments, "--budgets", "21"]) == 2
    assert "the budget is 21" in capsys.readouterr().err
