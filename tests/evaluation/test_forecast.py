"""`--dry-run` of evaluations: it counts what the run then asks, asks nothing itself, and writes nothing."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.cli.main import main
from selectllm.errors import HostUnreachable, ModelError
from selectllm.evaluation import row_bootstrap
from selectllm.llm.model import Reply, Request
from selectllm.testing.ollama_answers import answer_chat, rate_candidate
from tests.conftest import FakeModel
from tests.evaluation.killed import ASKED, OPTIONS

pytestmark = pytest.mark.usefixtures("quick_embedding")
Make = Callable[..., FakeModel]
PRICES = ("--price-in", "100000", "--concurrency", "1")
"""A question costs 1: the fake model counts ten tokens of each prompt."""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_bootstrap, "RESAMPLES", 99)


def answer(request: Request) -> Reply | str:
    if not request.logprobs:
        return answer_chat(request.text, request.schema, None).text
    (token,) = rate_candidate(request.text, None).logprobs
    odds = {one["token"]: one["logprob"] for one in token["top_logprobs"]}
    return Reply(token["token"], "length", 10, 1, logprobs=odds)


def without_odds(request: Request) -> Reply | str:
    if request.logprobs:
        raise ModelError("logprobs are not supported")
    return answer(request)


def arguments_of(name: str, folder: Path) -> list[str]:
    own = OPTIONS[name](folder, folder / "out")
    return ["evaluate", name.removesuffix("-pairwise"), *own, *PRICES, "--store", str(folder / "store"), "--json"]


def dry_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("name", ASKED)
def test_a_dry_run_counts_what_the_run_then_asks(
    name: str, fake_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, arguments = fake_model(answer), arguments_of(name, tmp_path)
    found = dry_run(arguments, capsys)
    assert (found["questions"], found["to_ask"]) == (ASKED[name], ASKED[name])
    assert found["output_tokens"] >= found["to_ask"]
    assert found["cost"] == pytest.approx(found["prompt_tokens"] / 10)
    assert found["list_prices_of"] is None
    assert (model.asked, (tmp_path / "store").exists(), (tmp_path / "out").exists()) == ([], False, False)
    assert main([*arguments, "--max-cost", str(ASKED[name] // 2)]) == 1
    asked = len(model.asked)
    assert 0 < asked < ASKED[name]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    left = dry_run(arguments, capsys)
    assert left["to_ask"] == ASKED[name] - asked
    assert left["cost"] < found["cost"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == files
    assert main(arguments) == 0
    assert len(model.asked) == ASKED[name]
    assert dry_run(arguments, capsys)["to_ask"] == 0
    assert len(model.asked) == ASKED[name]


def test_a_judge_that_refuses_odds_is_known_by_its_choices(
    fake_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, arguments = fake_model(without_odds), arguments_of("alpaca-eval", tmp_path)
    (judge,) = dry_run(arguments, capsys)["models"]
    assert "one question more decides" in judge["notes"][0]
    assert main([*arguments, "--max-cost", "11"]) == 1
    chosen = sum(not request.logprobs for request in model.asked)
    (judge,) = dry_run(arguments, capsys)["models"]
    assert (judge["to_ask"], judge["notes"]) == (ASKED["alpaca-eval"] - 1 - chosen, [])
    assert main(arguments) == 0
    assert dry_run(arguments, capsys)["to_ask"] == 0


def test_what_a_run_has_given_up_counts_only_where_it_is_asked_again(
    fake_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fake_model(lambda request: "" if "Question 3:" in request.text else answer(request))
    arguments = arguments_of("answers", tmp_path)
    assert main([*arguments, "--max-abstained", "0"]) == 1
    asked = len(model.asked)
    expected = dry_run([*arguments, "--max-abstained", "0.5"], capsys)["to_ask"]
    assert main([*arguments, "--max-abstained", "0.5"]) == 0
    assert len(model.asked) - asked == expected
    assert dry_run([*arguments, "--max-abstained", "0.5"], capsys)["to_ask"] == 0
    assert dry_run([*arguments, "--max-abstained", "0.5", "--reask"], capsys)["to_ask"] == 2  # of two seeds


def test_a_model_that_cannot_be_looked_up_is_counted_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def connect(*_: object) -> FakeModel:
        raise HostUnreachable("no server answers at http://gpu1")

    monkeypatch.setattr("selectllm.llm._connect", connect)
    for name in ASKED:
        folder = tmp_path / name
        folder.mkdir()
        found = dry_run(arguments_of(name, folder), capsys)
        assert found["to_ask"] == ASKED[name]
        assert "cannot be looked up: no server answers at http://gpu1" in found["models"][0]["notes"][0]


def test_how_a_model_thinks_is_open_until_its_trial_is_kept(
    fake_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fake_model(lambda request: answer(request) if "Answer 1" in request.text else '{"ranking": [1, 2]}')
    model.info = dataclasses.replace(model.info, may_think=True)
    arguments = [*arguments_of("alpaca-eval", tmp_path), "--preference", "choice"]
    (judge,) = dry_run(arguments, capsys)["models"]
    assert judge["notes"] == ["up to three questions more decide how it is to think; it is counted without"]
    assert main([*arguments, "--max-cost", "5"]) == 1
    (judge,) = dry_run(arguments, capsys)["models"]
    assert (judge["to_ask"], judge["notes"]) == (ASKED["alpaca-eval"] - 1 - (len(model.asked) - 1), [])


def test_a_dry_run_is_printed_for_people(fake_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_model(answer)
    *arguments, _ = arguments_of("mt-bench", tmp_path)
    assert main([*arguments, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("asked (ollama:m): 40 questions, 40 still to ask: about ")
    assert lines[1].startswith("judge (ollama:m): 40 questions, 40 still to ask: about ")
    assert lines[2].startswith("All: 80 questions, 80 still to ask: about ")
    assert "cost up to " in lines[2]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0
    assert "All: 80 questions, none still to ask" in capsys.readouterr().out


def test_annotations_leave_nothing_to_forecast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = OPTIONS["judge-agreement"](tmp_path, tmp_path)[1]
    for arguments in (["alpaca-eval"], ["judge-agreement", "--given", given]):
        assert main(["evaluate", *arguments, "--annotations", given, "--dry-run"]) == 2
        assert "leave out --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["answers", "overlap", "mt-bench"])
def test_a_dry_run_reads_files_of_answers_as_the_run_does(
    name: str, fake_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, given = fake_model(answer), tmp_path / "given.jsonl"
    questions = OPTIONS[name](tmp_path, tmp_path / "out")[0]
    own = ["--predictions"] if name == "answers" else ["--model", "asked=ollama:m", "--model"]
    place = str(given) if name == "answers" else f"given={given}"
    arguments = ["evaluate", name, questions, *own, place, "--store", str(tmp_path / "store")]
    messages = []
    for content in (None, "{", '{"question_id": 999, "output": "of no question", "choices": 7}\n'):
        if content is not None:
            given.write_text(content)
        assert main([*arguments, "--dry-run"]) == 2, content
        messages.append(capsys.readouterr().err)
        if name == "mt-bench" and content and "999" in content:
            continue  # there, a question without an answer is counted as missing
        assert (main(arguments), capsys.readouterr().err, model.asked) == (2, messages[-1], [])
    assert "given.jsonl does not exist" in messages[0]
    assert all("given.jsonl" in message for message in messages)


def test_a_dry_run_reads_judgments_as_the_run_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions, judgments = OPTIONS["mt-bench"](tmp_path, tmp_path / "out")[0], tmp_path / "judgments.jsonl"
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"question_id": 1, "choices": [{"index": 0, "turns": ["one", "two"]}]}\n')
    arguments = ["evaluate", "mt-bench", questions, "--model", f"given={answers}", "--judgments", str(judgments)]
    arguments += ["--store", str(tmp_path / "store"), "--dry-run"]
    judgments.write_text('{"question_id": 1, "model": "another", "score": 3, "turn": 1}\n')
    for command in (arguments, arguments[:-1]):
        assert main(command) == 2
        assert "has no judgment of these models and questions" in capsys.readouterr().err
        assert not (tmp_path / "store").exists()
    judgments.write_text('{"question_id": 1, "model": "given", "score": 3, "turn": 1}\n')
    assert main(arguments) == 0


def test_models_without_a_price_are_named_beside_the_cost_of_the_others(
    fake_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_model(answer)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    questions = OPTIONS["overlap"](tmp_path, tmp_path / "out")[0]
    arguments = ["evaluate", "overlap", questions, "--store", str(tmp_path / "store")]
    arguments += ["--model", "priced=openai:gpt-4o-mini", "--model", "mine=ollama:m", "--model", "own=openai:mine"]
    found = dry_run([*arguments, "--json"], capsys)
    assert found["without_price"] == ["mine", "own"]
    assert found["cost"] == found["models"][0]["cost"] > 0
    assert main([*arguments, "--dry-run"]) == 0
    assert "the cost of all is without mine, own: no price is known" in capsys.readouterr().out
    assert main([*arguments, "--dry-run", "--price-in", "1"]) == 0
    assert "without" not in capsys.readouterr().out
