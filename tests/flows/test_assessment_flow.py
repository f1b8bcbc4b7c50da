"""The flow of an assessment: each model is a subflow, and what the store has is Cached."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.assessment import assess_alpaca_eval, assess_answers, assess_mt_bench
from flows.commands import assessment_app
from selectllm.cli.main import run_app
from selectllm.evaluation.answers.compare import compare_overlap
from selectllm.evaluation.answers.settings import OverlapSettings
from tests.conftest import FakeModel

pytestmark = [
    pytest.mark.usefixtures("quick_embedding"),
    pytest.mark.filterwarnings("default"),  # Prefect's own code warns under Python 3.11 and later; ours must not
]


@pytest.fixture
def settings(tmp_path: Path) -> OverlapSettings:
    rows = [{"instruction": f"Ask {n}", "output": f"river {n} and hill"} for n in range(6)]
    questions, taken = tmp_path / "questions.jsonl", tmp_path / "taken.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    taken.write_text("".join(json.dumps(row | {"output": "zebra"}) + "\n" for row in rows[1:]))
    return OverlapSettings(
        questions=str(questions), models=("asked=ollama:tuned", f"taken={taken}"), store=str(tmp_path / "store")
    )


def test_the_flow_assesses_like_the_library_and_a_second_run_finds_all_models(
    settings: OverlapSettings,
    fake_model: Callable[..., FakeModel],
    tmp_path: Path,
    subflow_states: Callable[[Any], dict[str, str]],
    artifacts: Callable[[Any], dict[str, Any]],
) -> None:
    model = fake_model(lambda request: f"river {request.text[-1]} and hill")
    final = assess_answers(settings, return_state=True)
    apart = compare_overlap(settings.model_copy(update={"store": str(tmp_path / "another store")}))
    assert final.result()["estimates"] == apart["estimates"]
    assert [row["mean"] for row in apart["estimates"][:2]] == [1, 0]
    assert len(model.asked) == 12
    names = {"asked: ollama:tuned", "taken: taken.jsonl"}
    assert subflow_states(final) == dict.fromkeys(names, "Completed")
    assert "| asked | Rouge-L | 1.0000" in str(artifacts(final)["overlap"].data)
    again = assess_answers(settings, return_state=True)
    assert subflow_states(again) == dict.fromkeys(names, "Cached")
    assert again.result()["estimates"] == apart["estimates"]


def test_the_command_prints_what_was_measured(settings: OverlapSettings, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [settings.questions, "--model", settings.models[1], "--store", settings.store]
    app = assessment_app(assess_answers, assess_mt_bench, assess_alpaca_eval)
    assert run_app(app, [*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["missing"] for row in printed["estimates"]] == [1, 1]
    assert run_app(app, ["overlap", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["estimates"] == printed["estimates"]
    assert run_app(app, ["overlap", *arguments, "--model", "x"]) == 2
    assert "NAME=SELECTOR or NAME=FILE" in capsys.readouterr().err
