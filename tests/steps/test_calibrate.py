import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.llm.model import Reply, Request
from selectllm.ranking.calibration_set import load_pairs
from selectllm.settings import RunSettings
from selectllm.steps.calibrate import CalibrationReport, calibrate
from selectllm.steps.context import Context
from selectllm.store import Store
from tests.conftest import FakeModel, top_k


def calibrated(folder: Path, **ranking: Any) -> CalibrationReport:
    values = {"pool": "-", "budget": 1, "selector": "scripted:first", "ranking": ranking}
    return calibrate(Context(RunSettings.model_validate(values), Store(str(folder))))


def ranking_by(key: Callable[[str], bool]) -> Callable[[Request], str]:
    """Answers that name the candidates whose ids have the smaller key first."""

    def answer(request: Request) -> str:
        numbered = sorted(enumerate(request.shown, start=1), key=lambda pair: key(pair[1]))
        return json.dumps({"ranking": [number for number, _ in numbered[: top_k(request)]]})

    return answer


def test_a_perfect_model_is_good_enough(fake_model: Callable[..., FakeModel], tmp_path: Path) -> None:
    model = fake_model(ranking_by(lambda id: id.endswith("/worse")))
    report = calibrated(tmp_path)
    found = report.calibration
    assert (found.overall.accuracy.value, found.overall.auc.value) == (1.0, 1.0)
    assert (found.agreement, found.verdict, found.unanswered, report.ok) == (1.0, "good", 0.0, True)
    assert len(model.asked) == report.expense.questions == 40
    assert {(len(request.shown), top_k(request)) for request in model.asked} == {(14, 7)}
    assert {len(request.shown) - len(set(request.shown)) for request in model.asked} == {0}


def test_a_reversed_model_is_worse_than_chance(fake_model: Callable[..., FakeModel], tmp_path: Path) -> None:
    fake_model(ranking_by(lambda id: id.endswith("/better")))
    found = calibrated(tmp_path).calibration
    assert (found.overall.accuracy.value, found.overall.auc.value) == (0.0, 0.0)
    assert (found.agreement, found.verdict) == (1.0, "reversed")


def test_a_constant_model_is_found_out(fake_model: Callable[..., FakeModel], tmp_path: Path) -> None:
    fake_model(lambda request: json.dumps({"ranking": list(range(1, top_k(request) + 1))}))
    report = calibrated(tmp_path)
    found = report.calibration
    assert (found.verdict, report.ok) == ("constant", False)
    assert found.constant_answer == {"numbers": [1, 2, 3], "share": 1.0}
    assert found.places is not None
    assert (found.places.first_half, found.places.named) == (1.0, (1.0,) * 7 + (0.0,) * 7)
    assert found.p is not None
    assert found.p < 1e-9
    assert 0.4 < (found.overall.auc.value or 0.0) < 0.6, "the orders are shuffled: where texts stand is chance"


def test_length_alone_does_not_help(tmp_path: Path) -> None:
    values = {"pool": "-", "budget": 1, "selector": "scripted:longest"}
    found = calibrate(Context(RunSettings.model_validate(values), Store(str(tmp_path)))).calibration
    assert found.verdict == "chance"
    assert found.overall.auc.value == pytest.approx(0.5, abs=0.05)


def test_a_model_without_usable_answers_is_not_counted_as_even(
    fake_model: Callable[..., FakeModel], tmp_path: Path
) -> None:
    fake_model(lambda _: "All of them have their merits.")
    report = calibrated(tmp_path)
    found = report.calibration
    assert (found.unanswered, found.verdict, found.overall.accuracy.value) == (1.0, "silent", None)
    assert (found.places, found.agreement) == (None, None)
    assert report.reasked == 40


def test_tokens_time_and_cost_are_told_for_a_thousand_rows(
    fake_model: Callable[..., FakeModel], tmp_path: Path
) -> None:
    rank = ranking_by(lambda id: id.endswith("/worse"))
    fake_model(lambda request: Reply(rank(request), "stop", prompt_tokens=1000, output_tokens=50))
    expense = calibrated(tmp_path, price_in=2.0, price_out=10.0).expense
    assert (expense.prompt_tokens, expense.output_tokens, expense.questions_for_rows) == (1000.0, 50.0, 72)
    assert expense.cost_for_rows == round(72 * (1000 * 2 + 50 * 10) / 1e6, 4)
    assert expense.seconds_for_rows == pytest.approx(expense.seconds * 72 / 40, abs=0.1)
    assert calibrated(tmp_path / "other").expense.cost_for_rows is None


def test_pointwise_each_text_is_asked_about_once(fake_model: Callable[..., FakeModel], tmp_path: Path) -> None:
    better = {pair.better for pair in load_pairs()}

    def answer(request: Request) -> Reply:
        text = json.loads(request.text.rpartition("Instruction: ")[2].partition("\n")[0])
        odds = (-0.1, -2.5) if text in better else (-2.5, -0.1)
        return Reply("yes", "stop", logprobs=dict(zip((" yes", " no"), odds, strict=True)))

    model = fake_model(answer)
    object.__setattr__(model.info, "mode", "pointwise")
    report = calibrated(tmp_path)
    found = report.calibration
    assert len(model.asked) == report.expense.questions == 280
    assert (found.overall.accuracy.value, found.overall.auc.value, found.verdict) == (1.0, 1.0, "good")
    assert (found.places, found.p, found.agreement, report.query_size) == (None, None, None, None)
    assert report.expense.questions_for_rows == 1000
