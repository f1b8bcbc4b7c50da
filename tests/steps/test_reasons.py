"""`--reasons`: the model is asked once about each chosen row, and no failure of it ends a run."""

import json
import re
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from selectllm import cancellation, plan_run, select
from selectllm.cli.main import main
from selectllm.errors import (
    ContentRefused,
    ContextLengthExceeded,
    ModelChanged,
    ModelError,
    Stopped,
    TransientError,
    UsageError,
)
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.llm.model import Reply, Request
from selectllm.report.chosen_rows import shown_rows
from selectllm.report.format import counts, format_selection, markdown
from selectllm.report.format_plan import format_plan
from selectllm.report.result import Result
from selectllm.schemas import REASONS
from selectllm.settings import RunSettings
from selectllm.store import Artifact
from selectllm.store.inventory import scan
from selectllm.store.pruning import prune
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.campaign import CONCURRENCY, Scene
from tests.conftest import FakeModel, by_id

MakeRun = Callable[..., RunSettings]
MakeModel = Callable[..., FakeModel]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def is_reason(request: Request) -> bool:
    return request.question.startswith("reason for ")


def because(request: Request) -> str:
    """Ranks by id, and says of each row why."""
    return json.dumps({"reason": f"It is {request.shown[0]}."}) if is_reason(request) else by_id(request)


def reasons_asked(model: FakeModel) -> list[str]:
    return [request.shown[0] for request in model.asked if is_reason(request)]


@pytest.fixture
def settings(make_run: MakeRun) -> Callable[..., RunSettings]:
    def make(**fields: Any) -> RunSettings:
        fields["ranking"] = {"gather": "tiers"} | fields.get("ranking", {})
        return make_run(**{"selector": "ollama:m", "budget": 7, "reasons": True, **fields})

    return make


def test_each_chosen_row_is_asked_about_once_and_its_reason_is_shown_everywhere(
    settings: MakeRun, fake_model: MakeModel, tmp_path: Path
) -> None:
    model = fake_model(because)
    result = select(settings(out=str(tmp_path / "out")))
    chosen = result.table()["id"].to_pylist()
    assert sorted(reasons_asked(model)) == sorted(chosen)
    reasons = result.table("reasons")
    assert reasons.schema == REASONS
    assert reasons["id"].to_pylist() == chosen
    assert reasons["reason"].to_pylist() == [f"It is {id}." for id in chosen]
    assert reasons["reply"].to_pylist() == [
        next(request.key(model.info) for request in model.asked if request.question == f"reason for {id}")
        for id in chosen
    ]
    table = pq.read_table(tmp_path / "out" / "selection.parquet")
    lines = [json.loads(line) for line in (tmp_path / "out" / "selection.jsonl").read_text().splitlines()]
    assert table["reason"].to_pylist() == [line["reason"] for line in lines] == reasons["reason"].to_pylist()
    assert table.column_names[table.column_names.index("picked_by") + 1] == "reason"
    assert "reason" not in result.table().column_names
    assert result.summary["reasons"] == {
        "given": 7, "missing": 0, "asked": 7, "from_ledger": 0, "prompt_tokens": 70, "output_tokens": 14,
        "errors_by_kind": {}, "stopped": "",
    }  # fmt: skip
    assert result.summary["ranking"]["asked"] == len(model.asked) - 7
    printed = format_selection(result, None, 200)
    assert f"It is {chosen[0]}. (ranked 1 in query" in printed
    assert "The model says of 7 chosen rows why, asked 7 times in this run." in printed
    for line in format_selection(result, None, 80).split("\n\n")[1].splitlines():
        assert len(line) <= 80
    assert f"It is {chosen[0]}&#46; (ranked 1 in query" in markdown(result)
    explanation = explain(result.store, chosen[0])
    assert explanation.reason == explanation.record()["reason"] == f"It is {chosen[0]}."
    assert f"In the model's words: It is {chosen[0]}." in render_explanation(explanation)
    assert all(answer.question.startswith("query") for answer in explanation.answers)
    other = next(id for id in result.table("pool")["id"].to_pylist() if id not in chosen)
    assert explain(result.store, other).reason is None


def test_a_second_run_asks_nothing(settings: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model(because)
    first = select(settings())
    asked = len(model.asked)
    again = select(settings())
    assert len(model.asked) == asked
    assert "reasons" in again.summary["cached"]
    assert (again.summary["reasons"]["asked"], again.summary["reasons"]["from_ledger"]) == (0, 7)
    assert again.chosen().equals(first.chosen())
    more = select(settings(budget=8))
    assert len(set(reasons_asked(model))) == len(reasons_asked(model)) == 8, "only the new row is asked about"
    assert more.summary["reasons"]["from_ledger"] == 7
    model.longest = 0
    assert select(settings(budget=6)).summary["reasons"]["given"] == 6
    assert model.longest == 0, "where all is answered, no model is made ready"


def test_without_the_option_nothing_is_different(settings: MakeRun, fake_model: MakeModel, tmp_path: Path) -> None:
    model = fake_model(because)
    plain = select(settings(reasons=False, out=str(tmp_path / "plain")))
    assert not reasons_asked(model)
    assert (plain.summary["reasons"], plain.summary["artifacts"].get("reasons")) == (None, None)
    assert "reason" not in pq.read_schema(tmp_path / "plain" / "selection.parquet").names
    content = Path(plain.path()).read_bytes()
    after = select(settings(out=str(tmp_path / "out")))
    keys = {kind: key for kind, key in after.summary["artifacts"].items() if kind != "reasons"}
    assert keys == plain.summary["artifacts"]
    assert Path(after.path()).read_bytes() == content
    again = select(settings(reasons=False, out=str(tmp_path / "out")))
    assert again.summary["artifacts"] == plain.summary["artifacts"]
    for name in ("selection.jsonl", "selection.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_carried_column_of_the_same_name_stays(settings: MakeRun, fake_model: MakeModel, tmp_path: Path) -> None:
    fake_model(because)
    pool = tmp_path / "reasons.jsonl"
    pool.write_text("\n".join(json.dumps({"instruction": f"Task {n}", "reason": f"r{n}"}) for n in range(9)) + "\n")
    table = select(settings(pool=str(pool), budget=2)).chosen()
    assert all(reason.startswith("It is") for reason in table["reason"].to_pylist())
    assert all(reason.startswith("r") for reason in table["source_reason"].to_pylist())


@pytest.mark.parametrize(
    ("error", "kind", "is_asked_again"),
    [
        ("no", "unreadable", False),
        ("", "empty", False),
        (ContentRefused("no"), "refused", False),
        (ContextLengthExceeded("too long"), "too long", False),
        (TransientError("busy", "busy"), "given up", True),
    ],
)
def test_a_row_without_a_usable_answer_has_no_reason_and_is_counted(
    error: str | Exception, kind: str, is_asked_again: bool, settings: MakeRun, fake_model: MakeModel
) -> None:
    unlucky: list[str] = []

    def answer(request: Request) -> str:
        if is_reason(request) and (not unlucky or request.shown[0] in unlucky):
            unlucky[:] = request.shown
            if isinstance(error, Exception):
                raise error
            return error
        return because(request)

    model, run = fake_model(answer), settings(ranking={"retries": 0, "concurrency": 1})
    result = select(run)
    summary = result.summary["reasons"]
    assert (summary["given"], summary["missing"], summary["errors_by_kind"][kind]) == (6, 1, 1)
    assert len(result.table()) == 7
    (row,) = (row for row in result.chosen().to_pylist() if row["reason"] is None)
    assert [row["id"]] == unlucky
    assert f"{row['order']}" in format_selection(result, None, 120)
    why = next(shown["why"] for shown in shown_rows(result.chosen()) if shown["order"] == row["order"])
    assert why.startswith("ranked ")
    assert "; 1 have no reason." in " ".join(counts(result.summary))
    explanation = explain(result.store, row["id"])
    assert explanation.reason is None
    assert "model's words" not in render_explanation(explanation)
    asked = len(model.asked)
    again = select(run).summary["reasons"]
    assert (len(model.asked) > asked) == is_asked_again
    assert (again["given"], again["missing"]) == (6, 1)


@pytest.mark.parametrize(
    ("error", "words", "given"),
    [
        (ModelError("out of order"), "could not be asked any more", 3),
        (ModelChanged("another"), "stands for other weights", 0),  # replies since the last look are not used
    ],
    ids=["failed", "changed"],
)
def test_an_error_of_the_model_ends_the_asking_and_not_the_run(
    error: Exception,
    words: str,
    given: int,
    settings: MakeRun,
    fake_model: MakeModel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    is_broken = True

    def answer(request: Request) -> str:
        if is_broken and is_reason(request) and len(reasons_asked(model)) > 3:
            raise error
        return because(request)

    model, run = fake_model(answer), settings(ranking={"concurrency": 1})
    result = select(run)
    summary = result.summary["reasons"]
    assert (summary["given"], summary["missing"]) == (given, 7 - given)
    assert words in summary["stopped"]
    assert f"{7 - given} have no reason, since the model" in " ".join(counts(result.summary))
    assert "the rows are chosen, and some have no reason" in caplog.text
    assert len(result.table()) == 7
    is_broken, before = False, reasons_asked(model)[:given]
    result = select(run)
    assert (result.summary["reasons"]["given"], result.summary["reasons"]["stopped"]) == (7, "")
    assert not set(before) & set(reasons_asked(model)[4:]), "no reply is paid for twice"


def test_the_cost_limit_of_the_run_counts_for_reasons(settings: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model(because)
    prices = {"concurrency": 1, "price_in": 100_000, "price_out": 0}  # so that a question costs 1
    result = select(settings(budget=5, ranking={**prices, "max_cost": 7}))  # five queries, and two reasons
    summary = result.summary["reasons"]
    assert summary["given"] in (2, 3), "one request may be under way when the asking stops"
    assert summary["given"] + summary["missing"] == 5
    assert "cost as much as it may" in summary["stopped"]
    assert result.summary["cost"] == {"this_run": 5.0 + summary["given"], "selection": 5.0 + summary["given"]}
    asked = len(model.asked)
    result = select(settings(budget=5, ranking={**prices, "max_cost": 7}))
    assert result.summary["reasons"]["given"] == 5, "the replies that there are cost nothing"
    assert len(model.asked) == 10 > asked
    assert result.summary["cost"]["selection"] == 10.0


def test_a_cancelled_run_stops_and_goes_on(settings: MakeRun, fake_model: MakeModel) -> None:
    def answer(request: Request) -> str:
        if is_reason(request) and len(reasons_asked(model)) == 3:
            cancellation.cancel()
        return because(request)

    model, run = fake_model(answer), settings(ranking={"concurrency": 1})
    with pytest.raises(Stopped):
        select(run)
    before = reasons_asked(model)
    assert len(before) < 7
    model._answer = because
    assert select(run).summary["reasons"]["given"] == 7
    assert sorted(reasons_asked(model)) == sorted(set(reasons_asked(model)))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to find the file of a handle")
@pytest.mark.parametrize(
    "moment", ["synced replies", "half written reasons.parquet", "renamed reasons.parquet", "not renamed reasons.json"]
)
def test_a_killed_run_goes_on_and_asks_nothing_twice(moment: str, tmp_path: Path) -> None:
    with FaultyOllama(delay=0.02, parallel=CONCURRENCY) as server:
        scene = Scene(tmp_path, server)
        plain = scene.run()
        assert plain.code == 0
        scene._settings = (*scene._settings, "--reasons")
        dead = scene.run(moment, 2 if moment == "synced replies" else 1)
        assert dead.code == -signal.SIGKILL
        kept = scene.kept()
        assert scene.faults() == []
        alive = scene.run()
        assert (alive.code, alive.stderr) == (0, plain.stderr)
        assert scene.faults() == []
        assert not kept & set(alive.questions)
    lines = [json.loads(line) for line in scene.selection().splitlines()]
    assert [line["reason"] for line in lines] == ["It asks for something definite."] * 27
    asked = [body for body in server.asked if "reason" in json.dumps(body.get("format"))]
    assert 27 <= len(asked) <= 27 + CONCURRENCY


def test_faults_of_a_server_are_outlived(make_run: MakeRun) -> None:
    faults = dict.fromkeys(("busy", "reset", "empty", "prose", "repeated ids"), 0.1)
    with FaultyOllama(faults) as server:
        run = make_run(budget=20, selector="ollama:m", reasons=True, ranking={"hosts": [server.host], "timeout": 5})
        result = select(run)
        reasons = result.summary["reasons"]
        assert reasons["given"] + reasons["missing"] == 20
        assert reasons["given"] > 8
        server.wait_idle()
        assert len(set(server.loads)) == 1, "reasons are asked within the context of the ranking"


def test_a_filled_slot_gets_its_reasons_later_and_by_its_own_criteria(
    settings: MakeRun, fake_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fake_model(because)
    slot = {"history": "h", "slot": "one"}
    first = select(settings(reasons=False, criteria="Medicine", **slot))
    after = select(settings(criteria="Law", **slot))
    assert after.table().equals(first.table())
    assert after.summary["reasons"]["given"] == 7
    assert all('"Medicine"' in request.text for request in model.asked if is_reason(request))

    async def unreachable(*_: object) -> None:
        raise UsageError("nothing answers")

    monkeypatch.setattr("selectllm.llm._connect", unreachable)
    assert select(settings(**slot)).summary["reasons"]["given"] == 7, "they are in the store"
    other = {"history": "h", "slot": "two"}
    model = fake_model(because)
    select(settings(reasons=False, **other))
    monkeypatch.setattr("selectllm.llm._connect", unreachable)
    result = select(settings(**other))
    assert (result.summary["reasons"]["given"], len(result.table())) == (0, 7)
    assert "could not be had" in result.summary["reasons"]["stopped"]


@pytest.mark.parametrize("function", [select, plan_run])
def test_a_strategy_without_a_model_cannot_give_reasons(
    function: Callable[[RunSettings], Any], settings: MakeRun, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--reasons needs a strategy that asks a model, and random asks none"):
        function(settings(strategy="random"))
    assert not (tmp_path / "store").exists()


def test_plan_counts_the_questions_and_their_tokens(
    settings: MakeRun, fake_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fake_model(because)
    prices = {"price_in": 1.0, "price_out": 2.0}
    plain, plan = plan_run(settings(reasons=False, ranking=prices)), plan_run(settings(ranking=prices))
    assert plain["reasons"] is None
    assert plan["ranking"] == plain["ranking"]
    reasons = plan["reasons"]
    assert (reasons["calls"], reasons["output_tokens"]) == (7, 7 * 200)
    assert plan["cost"] == pytest.approx(
        plain["cost"] + (reasons["prompt_tokens"] + 2 * reasons["output_tokens"]) / 1e6, abs=2e-4
    )
    select(settings())
    assert len(reasons_asked(model)) == reasons["calls"]
    sent = sum(len(request.text.encode()) for request in model.asked if is_reason(request))
    assert 0.7 * sent < 4 * reasons["prompt_tokens"] < 1.3 * sent
    text = format_plan(plan)
    assert "Reasons    7 calls, one for each chosen row" in text
    assert f"at most {plan['ranking']['calls'] + 7} unless" in text
    assert plan_run(settings(ranking={"think": "on"}))["reasons"]["output_tokens"] == 7 * (200 + 4096)
    assert main(["plan", settings().pool, "--budget", "7", "--selector", "ollama:m", "--reasons"]) == 0
    assert "Reasons    7 calls" in capsys.readouterr().out


def test_what_a_model_says_moves_no_terminal_and_no_page(
    settings: MakeRun, fake_model: MakeModel, tmp_path: Path
) -> None:
    evil = (
        "\x1b[2J\x1b]0;x\x07<img src=x onerror=alert(1)> | **bold** [x](http://x)\u202e\ud800\u2028\nline"
        + "e\u0301" * 9
    )
    fake_model(lambda request: json.dumps({"reason": evil}) if is_reason(request) else by_id(request))
    result = select(settings(out=str(tmp_path / "out")))
    texts = [
        format_selection(result, None, 200),
        render_explanation(explain(result.store, result.table()["id"][0].as_py())),
    ]
    assert all(line.isprintable() for text in texts for line in text.splitlines())
    page = markdown(result)
    assert not re.search(r"<img|\*\*bold|\]\(http", page)
    assert all(line.count("|") == 4 for line in page.splitlines() if line.startswith("| 1 |"))
    lines = (tmp_path / "out" / "selection.jsonl").read_text(encoding="utf-8").split("\n")
    assert len(lines) == 8
    for line in lines[:7]:
        assert json.loads(line)["reason"].isprintable()


def test_reasons_stay_as_long_as_their_selection(settings: MakeRun, fake_model: MakeModel) -> None:
    fake_model(because)
    old, latest = select(settings(budget=3)), select(settings())
    late = datetime.now(UTC) + timedelta(days=99)
    prune(latest.store, 30, now=late)
    assert [info.artifact.key for info in scan(latest.store).artifacts if info.artifact.kind == "reasons"] == [
        latest.summary["artifacts"]["reasons"]
    ]
    assert explain(latest.store, latest.table()["id"][0].as_py()).reason
    assert not latest.store.is_intact(Artifact(kind="reasons", key=old.summary["artifacts"]["reasons"]))


def test_damaged_reasons_are_made_again_and_block_no_explanation(settings: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model(because)
    result = select(settings())
    asked = len(model.asked)
    Path(result.path("reasons")).write_bytes(b"torn")
    explanation = explain(result.store, result.table()["id"][0].as_py())
    assert (explanation.decision.chosen, explanation.reason) == (True, None)
    assert select(settings()).table("reasons")["reason"].null_count == 0
    assert len(model.asked) == asked


def test_the_thinking_that_was_decided_counts(settings: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model(because)
    select(settings(ranking={"think": "low"}))
    assert {request.think for request in model.asked if is_reason(request)} == {"low"}


def test_progress_counts_each_question(settings: MakeRun, fake_model: MakeModel) -> None:
    fake_model(because)
    seen: list[tuple[str, int, int]] = []
    select(settings(), lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "reasons"] == [("reasons", done, 7) for done in range(8)]


def test_a_pointwise_model_is_asked_for_words(settings: MakeRun, fake_model: MakeModel) -> None:
    def answer(request: Request) -> Reply | str:
        if request.logprobs:
            return Reply("yes", "stop", logprobs={"yes": -0.1 * len(request.text), "no": -1.0})
        return because(request)

    model = fake_model(answer)
    model.info = type(model.info)("fake", "fake", "fake-digest", "1", "model", "pointwise")
    result: Result = select(settings(budget=3, ranking={"mode": "pointwise"}))
    assert result.summary["reasons"]["given"] == 3
