"""Answers beside references: Rouge-L, cosines, seeds, intervals and paired differences."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.cli.main import main
from selectllm.errors import CostExceeded, UsageError
from selectllm.evaluation.answers.compare import compare_overlap
from selectllm.evaluation.answers.estimates import differences, estimate
from selectllm.evaluation.answers.overlap import WORDS, rouge_l
from selectllm.evaluation.answers.settings import OverlapSettings
from selectllm.llm.model import Request
from tests.conftest import FakeModel, HashEmbedder

pytestmark = pytest.mark.usefixtures("quick_embedding")
Make = Callable[..., OverlapSettings]
MakeModel = Callable[..., FakeModel]
COUNT = 12


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def reference(number: int) -> str:
    return f"the answer number {number} names river {number} and hill {number}"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Settings on twelve questions with references, and one without; `right` answers are the references."""
    rows: list[dict[str, Any]] = [{"instruction": f"Ask {n}", "output": reference(n)} for n in range(COUNT)]
    questions = write(tmp_path / "questions.jsonl", [*rows, {"instruction": "Ask without", "output": None}])
    write(tmp_path / "right.jsonl", [*rows, {"instruction": "Ask without", "output": "anything"}])
    write(tmp_path / "wrong.jsonl", [{"instruction": f"Ask {n}", "output": f"zebra {n}"} for n in range(COUNT)])
    halves = [{"instruction": f"Ask {n}", "output": reference(n) if n % 2 else " "} for n in range(COUNT)]
    write(tmp_path / "half.jsonl", halves)

    def make(*models: str, **fields: Any) -> OverlapSettings:
        named = [model.replace("=@", f"={tmp_path}/") for model in models]
        own = {"questions": questions, "models": named, "store": str(tmp_path / "store")}
        return OverlapSettings.model_validate(own | fields)

    return make


def estimates(record: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["model"], row["measure"]): row for row in record["estimates"]}


def test_answers_are_read_from_standard_input(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = compare_overlap(make("right=@right.jsonl", "half=@half.jsonl"))["estimates"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "half.jsonl").read_bytes())))
    assert compare_overlap(make("right=@right.jsonl", "half=-"))["estimates"] == expected


def test_equal_answers_score_one_and_missing_ones_are_not_scored(make: Make) -> None:
    record = compare_overlap(make("right=@right.jsonl", "half=@half.jsonl", "wrong=@wrong.jsonl"))
    found = estimates(record)
    assert found["right", "rouge_l"]["mean"] == found["right", "cosine"]["mean"] == 1
    assert found["half", "rouge_l"]["mean"] == 1
    assert (found["half", "rouge_l"]["scored"], found["half", "rouge_l"]["missing"]) == (6, 6)
    assert 0 < found["wrong", "rouge_l"]["mean"] < 0.25
    assert record["sources"][0]["without_reference"] == 1
    pairs = {(row["first"], row["second"], row["measure"]): row for row in record["differences"]}
    assert len(pairs) == 6
    right_wrong = pairs["right", "wrong", "rouge_l"]["over_questions"]
    assert right_wrong["low"] > 0.7
    assert right_wrong["pairs"] == COUNT
    assert pairs["right", "half", "rouge_l"]["over_questions"] == {"mean": 0, "low": 0, "high": 0, "pairs": 6}
    assert pairs["right", "half", "rouge_l"]["over_seeds"] is None


def test_the_same_name_again_is_a_seed_more(make: Make) -> None:
    record = compare_overlap(make("m=@right.jsonl", "other=@wrong.jsonl", "m=@wrong.jsonl", "other=@half.jsonl"))
    row = estimates(record)["m", "rouge_l"]
    assert list(row["by_seed"]) == ["0", "1"]
    assert row["by_seed"]["0"] == 1
    assert row["mean"] == pytest.approx(sum(row["by_seed"].values()) / 2)
    (difference,) = (row for row in record["differences"] if row["measure"] == "rouge_l")
    assert difference["over_seeds"]["pairs"] == 2
    assert difference["over_seeds"]["low"] < 0 < difference["over_seeds"]["high"]


def test_scores_are_kept_and_texts_embedded_once(make: Make, quick_embedding: type[HashEmbedder]) -> None:
    settings = make("right=@right.jsonl", "wrong=@wrong.jsonl")
    first, texts = compare_overlap(settings), quick_embedding.texts
    assert texts == 2 * COUNT
    again = compare_overlap(settings)
    assert quick_embedding.texts == texts
    assert again["estimates"] == first["estimates"]
    assert all(source["cached"] for source in again["sources"])


def test_models_are_asked_and_share_one_limit_of_cost(make: Make, fake_model: MakeModel) -> None:
    def answer(request: Request) -> str:
        return reference(int(request.text.split()[1])) if request.text != "Ask without" else "Nothing."

    model = fake_model(answer)
    prices = {"price_in": 1000, "price_out": 5000, "concurrency": 1}
    asked = ("a=ollama:a", "b=openai:b")
    with pytest.raises(CostExceeded):
        compare_overlap(make(*asked, ranking={**prices, "max_cost": 0.1}))
    paid = len(model.asked)
    assert 0 < paid <= COUNT
    record = compare_overlap(make(*asked, ranking=prices))
    assert estimates(record)["a", "rouge_l"]["mean"] == 1
    assert sum(source["asked"] for source in record["sources"]) == COUNT + 1 - paid


def test_a_limit_that_is_reached_does_not_keep_answers_from_being_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {f"ollama:{name}": FakeModel(lambda _: "An answer.") for name in "abc"}
    for name, model in models.items():
        model.info = dataclasses.replace(model.info, name=name, digest=name)

    async def connect(selector: str, *_: object) -> FakeModel:
        return models[selector]

    monkeypatch.setattr("selectllm.llm._connect", connect)
    prices = {"price_in": 1000, "price_out": 5000, "concurrency": 1}  # each question costs 0.02
    compare_overlap(make("a=ollama:a", ranking=prices))
    limit = {**prices, "max_cost": 0.02 * (COUNT + 1)}
    both = compare_overlap(make("b=ollama:b", "a=ollama:a", ranking=limit))
    assert [source["answered"] for source in both["sources"]] == [COUNT + 1] * 2
    assert [source["asked"] for source in both["sources"]] == [COUNT + 1, 0]
    with pytest.raises(CostExceeded, match=r"has cost 0\.26, and --max-cost is 0\.26"):
        compare_overlap(make("b=ollama:b", "c=ollama:c", store=make("b=ollama:b").store + "-new", ranking=limit))
    assert models["ollama:c"].asked == []


def test_questions_without_references_and_odd_models_are_refused(make: Make, tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.jsonl", [{"instruction": "Ask 1"}])
    with pytest.raises(UsageError, match="--output-column"):
        compare_overlap(make("a=@right.jsonl", questions=bare))
    for models, message in (
        (["right.jsonl"], "NAME=SELECTOR or NAME=FILE"),
        (["a=scripted:first"], "no words"),
        (["a=x", "a=x"], "named twice"),
        (["a=ollama:"], "unknown selector"),
    ):
        with pytest.raises(ValueError, match=message):
            make(*models)
    with pytest.raises(ValueError, match="--batch needs a selector openai:MODEL: ollama:b takes no batches"):
        make("a=openai:a", "b=ollama:b", ranking={"batch": True})
    assert make("a=openai:a", "b=@right.jsonl", ranking={"batch": True}).run().ranking.batch is False


def test_rouge_l_reads_any_script_and_the_first_words_of_long_texts() -> None:
    assert rouge_l([("река Волга", "Волга река"), ("猫が好き", "猫が好き"), ("!!", "a")]) == [0.5, 1, 0]
    long = "word " * WORDS
    assert rouge_l([(long + "more", long + "else")]) == [1]


def test_an_interval_needs_two_questions() -> None:
    assert estimate("m", "x", {}, 3).mean is None
    one = estimate("m", "x", {("a", 0): 0.5}, 3)
    assert (one.mean, one.interval, one.scored, one.missing) == (0.5, None, 1, 2)
    (difference,) = differences("x", {"m": {("a", 0): 0.5}, "n": {("b", 0): 0.5, ("a", 0): 1.0}})
    assert difference.over_questions is None


def test_the_command_prints_and_writes(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make("ri\x1b[2Jght=@right.jsonl", "wrong=@wrong.jsonl")
    arguments = ["evaluate", "overlap", settings.questions, "--store", settings.store]
    arguments += [part for model in settings.models for part in ("--model", model)]
    out = tmp_path / "overlap.json"
    for _ in range(2):  # the second time it finds the same file
        assert main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "Rouge-L" in printed
    assert "1 questions have no reference" in printed
    written = json.loads(out.read_text())
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["estimates"] == written["estimates"]
    assert main([*arguments, "--model", "x"]) == 2
    assert "NAME=SELECTOR or NAME=FILE" in capsys.readouterr().err


def test_real_references_are_nearer_to_themselves_than_to_others(shared: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (shared / "dolly_test_1k.jsonl").read_text().splitlines()[:60]]
    questions = write(tmp_path / "q.jsonl", rows)
    moved = [{**row, "output": other["output"]} for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    fields = {"questions": questions, "store": str(tmp_path / "store")}
    models = [f"own={questions}", f"moved={write(tmp_path / 'moved.jsonl', moved)}"]
    found = estimates(compare_overlap(OverlapSettings.model_validate({**fields, "models": models})))
    assert found["own", "rouge_l"]["mean"] == 1
    assert found["moved", "rouge_l"]["mean"] < 0.3
