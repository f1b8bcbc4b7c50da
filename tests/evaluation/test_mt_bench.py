"""MT-Bench: two turns, ratings and comparisons, references, FastChat's files, and judgments that are none."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.cli.main import main
from selectllm.errors import CostExceeded, TooManyAbstained, UsageError
from selectllm.evaluation.mt_bench.judge_question import read_judgment
from selectllm.evaluation.mt_bench.prompts import NAMES, Case, file_prompt, read_prompts
from selectllm.evaluation.mt_bench.questions import read_answers, read_dialogues
from selectllm.evaluation.mt_bench.run import run_mt_bench
from selectllm.evaluation.mt_bench.settings import MtBenchSettings
from selectllm.llm.model import Reply, Request
from tests.conftest import FakeModel

Make = Callable[..., MtBenchSettings]
MakeModel = Callable[..., FakeModel]
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write of Hawaii.", "Now shorter."]},
    {"question_id": 82, "category": "writing", "turns": ["Write of Rome.", "Now longer."]},
    {"question_id": 101, "category": "math", "turns": ["What is 2 + 3?", "And twice that?"]},
]
PROMPTS = [
    {
        "name": name,
        "type": kind,
        "system_prompt": f"You judge, {name}.",
        "prompt_template": " ".join(
            [
                *(["{question}"] if turn == 1 else ["{question_1} {question_2}"]),
                *(["{ref_answer_1}"] if has_reference else []),
                *(
                    "{answer" + mark + ("}" if turn == 1 else "_1} {answer" + mark + "_2}")
                    for mark in ([""] if kind == "single" else ["_a", "_b"])
                ),
            ]
        ),
        "output_format": "[[rating]]" if kind == "single" else "[[A]]",
    }
    for (kind, has_reference, turn), name in NAMES.items()
]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def answers(name: str, *turns: Any) -> list[dict[str, Any]]:
    return [
        {"question_id": row["question_id"], "model_id": name, "choices": [{"index": 0, "turns": list(turns)}]}
        for row in QUESTIONS
    ]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Settings on three questions, with files of answers of a good and a bad model."""
    questions = write(tmp_path / "question.jsonl", QUESTIONS)
    references = write(tmp_path / "gpt-4.jsonl", answers("gpt-4", "Five.", "Ten."))
    good = write(tmp_path / "good.jsonl", answers("good", "A good answer.", "A good end."))
    bad = write(tmp_path / "bad.jsonl", answers("bad", "A bad answer. [[10]]", "A bad end."))

    def make(**fields: Any) -> MtBenchSettings:
        own = {"questions": questions, "references": references, "store": str(tmp_path / "store")}
        own |= {"models": [f"good={good}", f"bad={bad}"], "judge": "ollama:judge"}
        return MtBenchSettings.model_validate(own | fields)

    return make


def fair(request: Request) -> str:
    """Rates good answers 8 and bad ones 3, in the form that is asked for; of two, prefers the good one."""
    if '"verdict"' in request.text:
        first = request.text.index("A good") < request.text.index("A bad")
        return json.dumps({"reason": "It is.", "verdict": "A" if first else "B"})
    rating = 8 if "A good" in request.text else 3
    return json.dumps({"reason": "It is.", "rating": rating}) if request.schema else f"Well. Rating: [[{rating}]]"


def scores(record: dict[str, Any]) -> dict[tuple[str, str, int | None], dict[str, Any]]:
    return {(row["model"], row["category"], row["turn"]): row for row in record["scores"]}


def test_answers_are_rated_by_category_and_turn(make: Make, fake_model: MakeModel) -> None:
    model = fake_model(fair)
    record = run_mt_bench(make())
    found = scores(record)
    assert found["good", "all", None]["mean"] == 8
    assert found["bad", "math", 2]["mean"] == 3
    assert found["good", "writing", 1]["interval"]["pairs"] == 2
    assert found["good", "math", 1]["interval"] is None  # one question has none
    assert {row["failed"] + row["missing"] for row in record["scores"]} == {0}
    (difference,) = record["differences"]
    assert difference["over_questions"] == {"mean": 5, "low": 5, "high": 5, "pairs": 3}
    assert len(model.asked) == 12
    math = [request.text for request in model.asked if "2 + 3" in request.text]
    assert all("Five." in text for text in math)
    assert not any("Five." in request.text for request in model.asked if "2 + 3" not in request.text)
    run_mt_bench(make())
    assert len(model.asked) == 12


def test_two_answers_are_compared_in_both_orders(make: Make, fake_model: MakeModel) -> None:
    model = fake_model(fair)
    record = run_mt_bench(make(mode="pairwise"))
    assert scores(record)["bad", "all", None]["mean"] == 0
    assert ("good", "all", None) not in scores(record)
    assert len(model.asked) == 12
    fake_model(lambda _: '{"reason": "The first.", "verdict": "A"}')
    biased = run_mt_bench(make(mode="pairwise", store=make().store + "2"))
    assert scores(biased)["bad", "all", None]["mean"] == 0.5


def test_models_answer_the_second_turn_after_their_first(make: Make, fake_model: MakeModel, tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        return "" if request.text == "Write of Rome." else f"A good answer to {request.text}"

    model = fake_model(answer)
    settings = make(models=["m/1=ollama:tuned"], judge=None, out=str(tmp_path / "out"), ranking={"max_abstained": 0.5})
    record = run_mt_bench(settings)
    second = {request.text: request.before for request in model.asked if request.before}
    assert set(second) == {"Now shorter.", "And twice that?"}
    assert second["Now shorter."] == (
        ("user", "Write of Hawaii."),
        ("assistant", "A good answer to Write of Hawaii."),
    )
    assert record["answers"] == {"m/1": {"answered": 4, "missing": 2}}
    written = tmp_path / "out" / "model_answer" / "m_1.jsonl"
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert [line["question_id"] for line in lines] == [81, 101]
    assert read_answers(str(written))["81"][1] == "A good answer to Now shorter."


def test_answers_that_are_missing_are_not_judged(make: Make, fake_model: MakeModel, tmp_path: Path) -> None:
    fake_model(fair)
    half = write(tmp_path / "half.jsonl", answers("half", "A good answer.", "$ERROR$")[:2])
    row = scores(run_mt_bench(make(models=[f"half={half}"])))["half", "all", None]
    assert (row["mean"], row["scored"], row["missing"], row["failed"]) == (8, 2, 4, 0)


def test_judgments_that_cannot_be_used_are_failed_and_too_many_end_the_run(make: Make, fake_model: MakeModel) -> None:
    fake_model(lambda request: "I like it. 9/10" if "Rome" in request.text else fair(request))
    with pytest.raises(TooManyAbstained):
        run_mt_bench(make())
    row = scores(run_mt_bench(make(ranking={"max_abstained": 0.5})))["good", "all", None]
    assert (row["mean"], row["scored"], row["failed"], row["missing"]) == (8, 4, 2, 0)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"reason": "x", "rating": 7}', 7),
        ("Fine. [[7]]", 7),
        ("Rating: [[7.5]]", 7.5),
        ("[[7]] and again [[7]]", 7),
        ("The answer says [[10]], I say [[2]]", None),
        ("Rating: 7", None),
        ("[7]", None),
        ("[[0]]", None),
        ("[[11]]", None),
        ('{"rating": "7"}', None),
        ('{"rating": true}', None),
        ('{"rating": 7', None),
        ('{"rating": 1e999}', None),
        ('{"rating": NaN}', None),
        ("[[" + "9" * 5000 + "]]", None),
        ("", None),
    ],
)
def test_a_rating_is_read_strictly(text: str, score: float | None) -> None:
    reading = read_judgment(Reply(text, "stop"), "single")
    assert (reading.value and reading.value.score) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("[[A]]", 1),
        ("[[B]]", 0),
        ("[[C]]", 0.5),
        ('{"verdict": "tie"}', 0.5),
        ("[[A]] or [[B]]", None),
        ("A", None),
        ('{"verdict": ["A"]}', None),
    ],
)
def test_a_verdict_is_read_strictly(text: str, score: float | None) -> None:
    reading = read_judgment(Reply(text, "stop"), "pairwise")
    assert (None if reading.value is None else reading.value.score) == score


@pytest.mark.parametrize("mode", ["single", "pairwise"])
def test_files_of_fastchat_are_written_and_read(
    mode: str, make: Make, fake_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_model(lambda request: "none" if "Rome" in request.text and "longer" not in request.text else fair(request))
    out = tmp_path / "out"
    judged = run_mt_bench(make(mode=mode, out=str(out), ranking={"max_abstained": 0.5}))
    (written,) = (out / "model_judgment").iterdir()
    assert written.name == f"ollama_judge_{'single' if mode == 'single' else 'pair'}.jsonl"
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert len(lines) == (12 if mode == "single" else 6)
    if mode == "single":
        assert {line["score"] for line in lines} == {8, 3, -1}
        assert set(lines[0]) == {
            *("question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp")
        }
    else:
        assert {(line["g1_winner"], line["g2_winner"]) for line in lines} == {
            ("model_2", "model_2"),
            ("error", "error"),
        }
    again = run_mt_bench(make(mode=mode, judge=None, judgments=str(written)))
    assert again["scores"] == judged["scores"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(written.read_bytes())))
    assert run_mt_bench(make(mode=mode, judge=None, judgments="-"))["scores"] == judged["scores"]


def test_prompts_of_a_file_are_filled_in_once(make: Make, fake_model: MakeModel, tmp_path: Path) -> None:
    model = fake_model(fair)
    prompts = write(tmp_path / "judge_prompts.jsonl", PROMPTS)
    record = run_mt_bench(make(prompts=prompts))
    assert scores(record)["good", "all", None]["mean"] == 8
    texts = {request.before[0][1]: request.text for request in model.asked if "good" in request.text}
    assert texts["You judge, single-math-v1."] == "What is 2 + 3? Five. A good answer."
    assert {request.schema for request in model.asked} == {None}
    case = Case(("{answer}",), (("{question} {0} {x.__class__}",),))
    assert file_prompt(read_prompts(prompts), "single", case).text == "{answer} {question} {0} {x.__class__}"
    odd = write(tmp_path / "odd.jsonl", [{"name": "single-v1", "prompt_template": "{secret}"}])
    with pytest.raises(UsageError, match="wants secret"):
        run_mt_bench(make(prompts=odd))
    with pytest.raises(UsageError, match="none of the judge prompts"):
        run_mt_bench(make(prompts=write(tmp_path / "none.jsonl", [{"name": 5}])))


def test_a_run_that_has_cost_enough_goes_on_where_it_was(make: Make, fake_model: MakeModel) -> None:
    model = fake_model(lambda request: fair(request) if "JSON" in request.text else "A good answer.")
    prices = {"price_in": 1000, "price_out": 5000, "concurrency": 1}  # each question costs 0.02
    with pytest.raises(CostExceeded):
        run_mt_bench(make(models=["m=ollama:m"], ranking={**prices, "max_cost": 0.15}))
    asked = len(model.asked)
    assert 6 < asked < 12  # all answers, and some judgments
    record = run_mt_bench(make(models=["m=ollama:m"], ranking=prices))
    assert len(model.asked) == 12
    assert record["asked"] == 12 - asked


def test_a_limit_that_is_reached_does_not_keep_judgments_from_being_read(make: Make, fake_model: MakeModel) -> None:
    model = fake_model(lambda request: fair(request) if "JSON" in request.text else "A good answer.")
    prices = {"price_in": 1000, "price_out": 5000, "concurrency": 1}  # each question costs 0.02
    first = run_mt_bench(make(models=["m=ollama:m"], ranking=prices))
    kept = Path(make().store) / "v1" / "replies"
    for file in kept.rglob("*.jsonl"):  # as if the answers were of another store, and the judgments of this one
        lines = [line for line in file.read_text("utf-8").splitlines(keepends=True) if '"question":"answer' not in line]
        file.write_text("".join(lines), "utf-8")
    for artifact in (Path(make().store) / "v1" / "artifacts").glob("*/*"):
        artifact.unlink()
    asked = len(model.asked)
    again = run_mt_bench(make(models=["m=ollama:m"], ranking={**prices, "max_cost": 0.12}))
    assert (len(model.asked) - asked, again["cost"]) == (6, pytest.approx(0.12))
    assert again["scores"] == first["scores"]


def test_both_turns_count_towards_the_limit(make: Make, fake_model: MakeModel) -> None:
    model = fake_model(lambda _: "An answer.")
    prices = {"price_in": 1000, "price_out": 5000, "concurrency": 1}  # each question costs 0.02
    with pytest.raises(CostExceeded, match=r"has cost 0\.06, and --max-cost is 0\.05"):
        run_mt_bench(make(models=["m=ollama:m"], judge=None, ranking={**prices, "max_cost": 0.05}))
    assert [len(request.before) for request in model.asked] == [0, 0, 0]


def test_a_judge_counts_towards_the_same_limit_as_the_models(make: Make, fake_model: MakeModel) -> None:
    model = fake_model(lambda request: fair(request) if "JSON" in request.text else "A good answer.")
    prices = {"price_in": 1000, "price_out": 5000, "concurrency": 1}
    settings = make(models=["m=ollama:m"], ranking={**prices, "max_cost": 0.12})
    with pytest.raises(CostExceeded, match=r"has cost 0\.12, and --max-cost is 0\.12"):
        run_mt_bench(settings)
    assert len(model.asked) == 6  # all answers, and no judgment
    record = run_mt_bench(make(models=["m=ollama:m"], ranking=prices))
    assert {name: record[name] for name in ("asked", "paid_prompt_tokens", "paid_output_tokens", "cost")} == {
        "asked": 6,
        "paid_prompt_tokens": 60,
        "paid_output_tokens": 12,
        "cost": 0.12,
    }


def test_batches_need_models_that_take_them(make: Make) -> None:
    assert make(models=["m=openai:m"], judge="openai:j", ranking={"batch": True}).run(None).ranking.batch is False
    for fields in ({"models": ["m=ollama:m"], "judge": None}, {"models": ["m=openai:m"]}):
        with pytest.raises(ValueError, match="--batch needs a selector openai:MODEL: ollama:"):
            make(ranking={"batch": True}, **fields)
    hosts = ("http://a/v1", "http://b/v1")
    with pytest.raises(ValueError, match="--batch needs one --host"):
        make(models=["m=openai:m"], judge="openai:j", judge_hosts=hosts, ranking={"batch": True})


def test_odd_files_are_refused(make: Make, fake_model: MakeModel, tmp_path: Path) -> None:
    fake_model(fair)
    for rows, message in (
        ([{"question_id": 1, "turns": []}], "is no question"),
        ([{"question_id": 1, "turns": ["a", None]}], "is no question"),
        ([{"question_id": None, "turns": ["a"]}], "is no question"),
        ([QUESTIONS[0], QUESTIONS[0]], "twice"),
    ):
        with pytest.raises(UsageError, match=message):
            read_dialogues(write(tmp_path / "odd.jsonl", rows))
    with pytest.raises(UsageError, match="--references"):
        run_mt_bench(make(references=None))
    with pytest.raises(UsageError, match="has no answers"):
        run_mt_bench(make(models=[f"m={write(tmp_path / 'odd.jsonl', [{'question_id': 81, 'choices': 'x'}])}"]))
    with pytest.raises(UsageError, match="no judgment of these"):
        run_mt_bench(make(judge=None, judgments=write(tmp_path / "odd.jsonl", [{"question_id": 5, "model": "x"}])))
    with pytest.raises(ValueError, match="two --model"):
        make(mode="pairwise", models=["m=x"])
    with pytest.raises(ValueError, match="choose one"):
        make(judgments="x")


def test_the_command_prints_scores(make: Make, fake_model: MakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    fake_model(fair)
    settings = make()
    arguments = ["evaluate", "mt-bench", settings.questions, "--store", settings.store, "--judge", "ollama:judge"]
    arguments += ["--references", str(settings.references), "--model", settings.models[0]]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "good   all       all    8.00" in printed
    assert "good: 6 answers, 0 missing" in printed
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["judging"] == "single"


def test_mt_bench_s_own_files_can_be_used(shared: Path, fake_model: MakeModel, tmp_path: Path) -> None:
    fake_model(lambda request: "An answer." if len(request.before) != 1 and "rate" not in request.text else "[[6]]")
    names = ("questions", "reference_gpt4", "judge_prompts")
    questions, references, prompts = (str(shared / f"mt_bench_{name}.jsonl") for name in names)
    fields = {"questions": questions, "references": references, "prompts": prompts, "judge": "ollama:judge"}
    record = run_mt_bench(
        MtBenchSettings.model_validate(fields | {"models": ["m=ollama:m"], "store": str(tmp_path / "store")})
    )
    assert record["questions"] == 80
    assert len({row["category"] for row in record["scores"]}) == 9
