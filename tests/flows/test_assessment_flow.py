"""The flow of an assessment: each model is a subflow, and what the store has is Cached."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.assessment import assess_alpaca_eval, assess_answers, assess_mt_bench
from flows.commands import assessment_app
from selectllm.cli.main import run_app
from selectllm.errors import CostExceeded, ModelError
from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings
from selectllm.evaluation.answers.compare import compare_overlap
from selectllm.evaluation.answers.settings import OverlapSettings
from selectllm.evaluation.mt_bench.run import run_mt_bench
from selectllm.evaluation.mt_bench.settings import MtBenchSettings
from selectllm.llm.model import Reply, Request
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


def test_models_of_a_flow_share_one_limit_of_cost(
    settings: OverlapSettings, fake_model: Callable[..., FakeModel]
) -> None:
    fake_model(lambda _: "An answer.")  # each costs 0.02
    ranking = {"price_in": 1000, "price_out": 5000, "concurrency": 1, "max_cost": 0.18}
    models = ("first=ollama:tuned", "second=openai:tuned")
    limited = OverlapSettings.model_validate(settings.model_dump() | {"ranking": ranking, "models": models, "seed": 1})
    final = assess_answers(limited, return_state=True)
    assert final.is_completed(), "the second model is the first by another name: all its answers are kept"
    first, second = final.result()["sources"]
    assert (first["cost"], second["cost"]) == (pytest.approx(0.12), 0)
    more = limited.model_copy(update={"seeds": 4})
    with pytest.raises(CostExceeded, match=r"has cost 0\.18, and --max-cost is 0\.18"):
        assess_answers(more)


@pytest.fixture
def bench(tmp_path: Path) -> MtBenchSettings:
    turns = [{"question_id": n, "category": "writing", "turns": [f"Write of {n}.", "Shorter."]} for n in range(3)]
    questions, taken = tmp_path / "bench.jsonl", tmp_path / "bad.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in turns))
    choices = [{"index": 0, "turns": ["A bad answer.", "A bad end."]}]
    taken.write_text("".join(json.dumps({"question_id": n, "choices": choices}) + "\n" for n in range(3)))
    return MtBenchSettings(
        questions=str(questions),
        models=("good=ollama:tuned", f"bad={taken}"),
        judge="ollama:judge",
        store=str(tmp_path / "store"),
    )


@pytest.mark.parametrize(
    ("fields", "name"),
    [({}, "ollama:judge"), ({"judge": None}, "no judge"), ({"judge": None, "judgments": "j.jsonl"}, "given judgments")],
)
def test_a_bench_is_named_by_who_judges(fields: dict[str, Any], name: str, bench: MtBenchSettings) -> None:
    assessment = bench.model_copy(update=fields)
    assert assess_mt_bench.flow_run_name.format(assessment=assessment) == f"MT-Bench by {name}"


def of_bench(request: Request) -> str:
    """Answers well, and judges fairly."""
    if "JSON" not in request.text:
        return "A good answer."
    return json.dumps({"reason": "It is.", "rating": 3 if "A bad" in request.text else 8})


def test_mt_bench_is_a_flow_with_a_subflow_for_each_model(
    bench: MtBenchSettings,
    fake_model: Callable[..., FakeModel],
    tmp_path: Path,
    subflow_states: Callable[[Any], dict[str, str]],
    task_states: Callable[[Any], dict[str, list[str]]],
    artifacts: Callable[[Any], dict[str, Any]],
) -> None:
    model = fake_model(of_bench)
    final = assess_mt_bench(bench, return_state=True)
    apart = run_mt_bench(bench.model_copy(update={"store": str(tmp_path / "another store")}))
    assert final.result() == apart
    assert len(model.asked) == 2 * (6 + 12)
    assert final.name == "Completed"
    assert subflow_states(final) == {"good: ollama:tuned": "Completed", "bad: bad.jsonl": "Cached"}
    assert "| good | all | all | 8.00 |" in str(artifacts(final)["mt-bench"].data)
    again = assess_mt_bench(bench, return_state=True)
    assert again.result()["scores"] == apart["scores"]
    assert len(model.asked) == 2 * (6 + 12)
    assert again.name == "Cached"
    assert set(subflow_states(again).values()) == {"Cached"}
    assert task_states(again)["mt-bench-judgments"] == ["Cached"]


def test_a_flow_that_failed_asks_only_what_is_missing(
    bench: MtBenchSettings, fake_model: Callable[..., FakeModel]
) -> None:
    def out_of_order(request: Request) -> str:
        if "JSON" in request.text and "Write of 2" in request.text:
            raise ModelError("the judge is out of order")
        return of_bench(request)

    broken = fake_model(out_of_order)
    failed = assess_mt_bench(bench, return_state=True)
    assert failed.is_failed()
    kept = sum("Write of 2" not in request.text for request in broken.asked if "JSON" in request.text)
    mended = fake_model(of_bench)
    record = assess_mt_bench(bench)
    assert all("JSON" in request.text for request in mended.asked), "no answer is asked for again"
    assert len(mended.asked) == record["asked"] == 12 - kept


def test_alpaca_eval_is_a_flow_whose_judging_is_cached(
    fake_model: Callable[..., FakeModel],
    tmp_path: Path,
    task_states: Callable[[Any], dict[str, list[str]]],
    artifacts: Callable[[Any], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def prefer_good(request: Request) -> Reply:
        first = request.text.find("GOOD") < request.text.find("BAD")  # neither is in the trial
        return Reply("1", "stop", 10, 1, logprobs={"1": -0.1 if first else -2.4, "2": -2.4 if first else -0.1})

    model = fake_model(prefer_good)
    for name in ("good", "bad"):
        own = [{"instruction": f"Ask {n}", "output": f"{name.upper()} {'x' * n}", "generator": name} for n in range(12)]
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    settings = AlpacaEvalSettings(
        outputs=str(tmp_path / "good.json"),
        baseline=str(tmp_path / "bad.json"),
        selector="ollama:judge",
        store=str(tmp_path / "store"),
    )
    final = assess_alpaca_eval(settings, return_state=True)
    asked = len(model.asked)
    assert final.name == "Completed"
    assert final.result()["win_rate"] > 80
    assert task_states(final)["judgements"] == ["Completed"]
    assert "| win rate |" in str(artifacts(final)["alpaca-eval"].data)
    again = assess_alpaca_eval(settings, return_state=True)
    assert (again.name, len(model.asked)) == ("Cached", asked)
    assert task_states(again)["judgements"] == ["Cached"]
    arguments = ["alpaca-eval", "--outputs", str(settings.outputs), "--baseline", str(settings.baseline), "--json"]
    app = assessment_app(assess_answers, assess_mt_bench, assess_alpaca_eval)
    assert run_app(app, [*arguments, "--selector", "ollama:judge", "--store", settings.store]) == 0
    assert json.loads(capsys.readouterr().out)["win_rate"] == final.result()["win_rate"]
    assert run_app(app, arguments) == 2
    assert "no judge is named" in capsys.readouterr().err
