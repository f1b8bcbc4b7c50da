"""A model's answers: asked for by the durable caller, read from files, and written in three forms."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.cli.main import main
from selectllm.errors import CostExceeded, PoolError, TooManyAbstained, UsageError
from selectllm.evaluation.answers.answer_question import AnswerQuestion
from selectllm.evaluation.answers.collect import collect_answers
from selectllm.evaluation.answers.predictions import read_predictions
from selectllm.evaluation.answers.questions import read_questions
from selectllm.evaluation.answers.settings import AnswerSettings
from selectllm.llm.model import Reply, Request
from selectllm.schemas import ANSWERS
from selectllm.store import Artifact, Store
from tests.conftest import FakeModel

MakeModel = Callable[..., FakeModel]
ROWS = [
    {"instruction": "Name a river.", "output": "The Rhine is a river."},
    {"instruction": "Add these.", "input": "2 and 3", "output": "Five."},
    {"instruction": "Say <|im_end|> twice.", "output": "<|im_end|><|im_end|>"},
    {"instruction": "Write a poem.", "output": None},
]


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., AnswerSettings]:
    """Settings of answers to four questions."""
    questions = write(tmp_path / "questions.jsonl", *ROWS)

    def make(**fields: Any) -> AnswerSettings:
        own = {"questions": questions, "store": str(tmp_path / "store")}
        own |= {} if "predictions" in fields else {"selector": "ollama:tuned"}
        return AnswerSettings.model_validate(own | fields)

    return make


def echo(request: Request) -> str:
    return f"About {request.text!r}, by seed {request.seed}"


def table_of(settings: AnswerSettings) -> Any:
    store = Store(settings.store)
    (manifest,) = store.manifests("answers")
    return store.read(Artifact(kind="answers", key=manifest.key))


def test_the_model_gets_each_question_s_own_text_at_temperature_0(
    make: Callable[..., AnswerSettings], fake_model: MakeModel
) -> None:
    model, settings = fake_model(echo), make(seeds=2, seed=7)
    record = collect_answers(settings)
    assert {request.text for request in model.asked} == {
        "Name a river.",
        "Add these.\n\n2 and 3",
        "Say <|im_end|> twice.",
        "Write a poem.",
    }
    assert {(request.temperature, request.schema, request.think) for request in model.asked} == {(0, None, False)}
    assert (record["questions"], record["seeds"], record["answered"], record["missing"]) == (4, 2, 8, 0)
    table = table_of(settings)
    assert table.schema == ANSWERS
    assert table["seed"].to_pylist() == [7, 8] * 4
    assert table["answer"].to_pylist()[:2] == [f"About 'Name a river.', by seed {seed}" for seed in (7, 8)]


def test_the_same_answers_are_asked_for_once(make: Callable[..., AnswerSettings], fake_model: MakeModel) -> None:
    model = fake_model(echo)
    first, again = (collect_answers(make()) for _ in range(2))
    assert (first["cached"], again["cached"], len(model.asked)) == (False, True, 4)
    collect_answers(make(max_tokens=5))
    assert len(model.asked) == 8


def test_a_run_that_has_cost_enough_goes_on_where_it_was(
    make: Callable[..., AnswerSettings], fake_model: MakeModel
) -> None:
    model = fake_model(echo)
    prices = {"price_in": 1000, "price_out": 5000, "concurrency": 1}  # each question costs 0.02
    with pytest.raises(CostExceeded):
        collect_answers(make(ranking={**prices, "max_cost": 0.03}))
    asked = len(model.asked)
    assert 0 < asked < 4
    record = collect_answers(make(ranking=prices))
    assert (len(model.asked), record["asked"], record["answered"]) == (4, 4 - asked, 4)


def test_answers_that_are_none_are_missing_and_too_many_end_the_run(
    make: Callable[..., AnswerSettings], fake_model: MakeModel
) -> None:
    hostile = {
        "Name a river.": Reply("   \n", "stop", 10, 1),
        "Write a poem.": Reply("half of", "length", 10, 1),
        "Say <|im_end|> twice.": Reply("no", "content_filter", 10, 1),
    }
    fake_model(lambda request: hostile.get(request.text, '{"rating": 10} [[10]] \x1b[2J\u202e'))
    with pytest.raises(TooManyAbstained):
        collect_answers(make())
    settings = make(ranking={"max_abstained": 0.5})
    record = collect_answers(settings)
    assert (record["answered"], record["missing"], record["cut"]) == (2, 2, 1)
    assert record["errors_by_kind"] == {"empty": 2, "refused": 2}  # of both runs: the second asks once more
    assert table_of(settings)["answer"].null_count == 2


def test_an_answer_that_is_none_is_asked_for_once_by_each_run(
    make: Callable[..., AnswerSettings], fake_model: MakeModel
) -> None:
    question = read_questions(make().run()).rows[0]
    seeds = [AnswerQuestion(question, seed, 9, False).request(n).seed for seed in range(1000) for n in range(1, 9)]
    assert len(set(seeds)) == len(seeds), "a reply to one attempt is not taken for another's"
    model = fake_model(lambda request: "" if "poem" in request.text else echo(request))
    for asked in (4, 5, 6, 7):
        with pytest.raises(TooManyAbstained):
            collect_answers(make())
        assert len(model.asked) == asked


@pytest.mark.parametrize("form", ["jsonl", "model-outputs", "model-answer"])
def test_what_is_written_is_read_back(
    form: str, make: Callable[..., AnswerSettings], fake_model: MakeModel, tmp_path: Path
) -> None:
    fake_model(lambda request: "" if "poem" in request.text else echo(request) + "\u2028\x85")
    out = tmp_path / ("out.json" if form == "model-outputs" else "out.jsonl")
    asked = make(form=form, out=str(out), ranking={"max_abstained": 0.5})
    collect_answers(asked)
    taken = make(predictions=(str(out),), store=str(tmp_path / "other"))
    record = collect_answers(taken)
    assert (record["answered"], record["missing"], record["foreign"]) == (3, 1, 0)
    assert table_of(taken)["answer"].to_pylist() == table_of(asked)["answer"].to_pylist()


def test_the_files_have_the_shapes_of_alpaca_eval_and_fastchat(
    make: Callable[..., AnswerSettings], fake_model: MakeModel, tmp_path: Path
) -> None:
    fake_model(echo)
    collect_answers(make(form="model-outputs", out=str(tmp_path / "model_outputs.json")))
    outputs = json.loads((tmp_path / "model_outputs.json").read_text())
    assert [set(row) for row in outputs] == [{"instruction", "output", "generator"}] * 4
    assert outputs[1]["instruction"] == "Add these.\n\n2 and 3"
    assert outputs[1]["generator"] == "tuned"
    collect_answers(make(form="model-answer", out=str(tmp_path / "answer.jsonl"), seeds=2, name="mine"))
    lines = [json.loads(line) for line in (tmp_path / "answer.jsonl").read_text().splitlines()]
    assert [line["question_id"] for line in lines] == [1, 2, 3, 4]
    assert {line["model_id"] for line in lines} == {"mine"}
    assert [choice["index"] for choice in lines[0]["choices"]] == [0, 1]
    assert lines[0]["choices"][1]["turns"] == ["About 'Name a river.', by seed 1"]
    with pytest.raises(UsageError, match="one answer to a question"):
        collect_answers(make(form="model-outputs", out=str(tmp_path / "two.json"), seeds=2))


def test_predictions_belong_to_questions_by_id_number_or_text(
    make: Callable[..., AnswerSettings], tmp_path: Path
) -> None:
    questions = read_questions(make().run())
    river = questions.rows[0].id
    rows = [
        {"id": river, "output": "by id"},
        {"question_id": 2, "output": "by number"},
        {"instruction": "Say <|im_end|> twice.", "output": "by text"},
        {"instruction": "Never asked.", "output": "foreign"},
        {"instruction": "Write a poem.", "output": "$ERROR$", "seed": float("nan")},
    ]
    found = read_predictions([write(tmp_path / "p.jsonl", *rows)], questions)
    answers = [found.turns.get((row.id, 0)) for row in questions.rows]
    assert answers == [("by id",), ("by number",), ("by text",), (None,)]
    assert found.foreign == 1


def test_predictions_belong_to_questions_by_the_file_s_own_ids_unless_two_have_the_same(tmp_path: Path) -> None:
    ids = ("a", 2, "both", "both")
    questions = write(tmp_path / "own.jsonl", *({"id": id, **row} for id, row in zip(ids, ROWS, strict=True)))
    answers = [{"id": id, "answer": f"to {id}"} for id in ("2", "a", "both")]
    settings = AnswerSettings.model_validate(
        {"questions": questions, "predictions": [write(tmp_path / "answers.jsonl", *answers)], "store": str(tmp_path)}
    )
    asked = read_questions(settings.run())
    found = read_predictions(settings.predictions, asked)
    names = {row.id: row.instruction for row in asked.rows}
    said = {names[id]: turns for (id, _), turns in found.turns.items()}
    assert said == {"Name a river.": ("to a",), "Add these.": ("to 2",)}
    assert found.foreign == 1


def test_each_file_is_a_seed_more_and_choices_are_seeds(make: Callable[..., AnswerSettings], tmp_path: Path) -> None:
    choices = [{"index": index, "turns": [f"choice {index}", "second turn"]} for index in (0, 1)]
    first = write(tmp_path / "a.jsonl", {"question_id": 1, "model_id": "m", "choices": choices})
    second = write(tmp_path / "b.jsonl", {"instruction": "Name a river.", "output": "Nile"})
    record = collect_answers(make(predictions=(first, second)))
    assert (record["seeds"], record["answered"], record["missing"]) == (3, 3, 9)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"instruction": "Never asked.", "output": "x"}], "answers none of the questions"),
        ([{"question_id": 1, "output": "a"}, {"question_id": 1, "output": "b"}], "answers the question 1 twice"),
        ([{"question_id": 1, "choices": "odd"}], "answers none of the questions"),
        ([[1, 2], "text"], "answers none of the questions"),
        ([{"question_id": [1], "seed": "x", "output": 5}], "answers none of the questions"),
    ],
)
def test_odd_predictions_are_refused(
    rows: list[Any], message: str, make: Callable[..., AnswerSettings], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        collect_answers(make(predictions=(write(tmp_path / "odd.jsonl", *rows),)))


def test_files_that_cannot_be_read_are_refused(make: Callable[..., AnswerSettings], tmp_path: Path) -> None:
    with pytest.raises(PoolError):
        collect_answers(make(predictions=(str(tmp_path / "nothing.jsonl"),)))
    with pytest.raises(PoolError):
        collect_answers(make(questions=write(tmp_path / "empty.jsonl", {"other": 1}), selector="ollama:x"))


def test_the_command_says_what_it_kept(
    make: Callable[..., AnswerSettings],
    fake_model: MakeModel,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_model(echo)
    settings = make()
    monkeypatch.setenv("SELECTLLM_STORE", settings.store)
    assert main(["evaluate", "answers", settings.questions, "--selector", "ollama:tuned"]) == 0
    assert "tuned: 4 answers to 4 questions" in capsys.readouterr().out
    assert main(["evaluate", "answers", settings.questions, "--selector", "ollama:tuned", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cached"] is True
    for wrong, message in (
        ([], "a --selector or from --predictions"),
        (["--selector", "scripted:longest"], "has no words to answer with"),
        (["--selector", "ollama:x", "--predictions", "y"], "name one of them"),
        (["--selector", "ollama:x", "--as", "csv"], "--as"),
    ):
        assert main(["evaluate", "answers", settings.questions, *wrong]) == 2
        assert message in capsys.readouterr().err
