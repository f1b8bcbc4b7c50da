import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from selectllm import select
from selectllm.cli.main import main
from selectllm.errors import StoreError, UsageError
from selectllm.explain.explain import explain
from selectllm.explain.explanation import Explanation
from selectllm.explain.render import reason_text, render_explanation
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Artifact
from tests import hostile
from tests.conftest import FakeModel, by_id

MakeRun = Callable[..., RunSettings]
MakeModel = Callable[..., FakeModel]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def every_row(result: Result) -> list[Explanation]:
    return [explain(result.store, id) for id in result.table("pool")["id"].to_pylist()]


def written(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "written.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("fields", [{"budget": 7}, {"budget": 5}, {"budget": 20}, {"ranking": {"passes": 3}}])
def test_explain_gives_each_row_a_reason_that_agrees_with_the_tables(fields: dict[str, Any], make_run: MakeRun) -> None:
    result = select(make_run(rows=60, **{"budget": 7, **fields}))
    order = {row["id"]: row["order"] for row in result.table().to_pylist()}
    ranks = {row["id"]: row["rank"] for row in result.table("rankings").to_pylist()}
    level = max(result.table()["rank"].to_pylist())
    for explanation in every_row(result):
        assert explanation.id is not None
        assert explanation.decision.order == order.get(explanation.id)
        assert explanation.decision.chosen == (explanation.id in order)
        assert explanation.rank == ranks.get(explanation.id)
        rank = ranks.get(explanation.id)
        expected = "unranked" if rank is None else "tier" if rank > level else None
        if expected:
            assert explanation.decision.why == expected
        else:
            assert explanation.decision.why in ("rank", "tournament", "place")
        if explanation.decision.place and explanation.decision.taken is not None and rank == level:
            assert explanation.decision.chosen == (explanation.decision.place <= explanation.decision.taken)
        assert explanation.id in [candidate.id for candidate in explanation.candidates]
        assert {candidate.id for candidate in explanation.candidates if candidate.chosen} <= order.keys()
        assert all(explanation.id in answer.shown for answer in explanation.answers)
        assert [answer for answer in explanation.answers if answer.used and not answer.round]
        assert [round.went_on for round in explanation.rounds] == [True] * (len(explanation.rounds) - 1) + [
            False
        ] * bool(explanation.rounds)
        assert bool(explanation.rounds) == (rank == level and "tournament" in result.summary["artifacts"])
        assert reason_text(explanation) in render_explanation(explanation)
        assert all(line.isprintable() for line in render_explanation(explanation).splitlines())


def test_explain_shows_the_order_and_reply_of_the_prompt(make_run: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model()
    result = select(make_run(budget=5))
    shown = {request.shown for request in model.asked}
    for explanation in every_row(result):
        (answer,) = explanation.answers
        assert answer.shown in shown
        ranked = json.loads(answer.text)["ranking"]
        assert [answer.shown[number - 1] for number in ranked] == [
            candidate.id for candidate in explanation.candidates if candidate.rank
        ]
        assert (answer.attempt, answer.outcome, answer.prompt_tokens, answer.output_tokens) == (1, "used", 10, 2)
        assert answer.model == "fake-digest"


def test_explain_shows_the_answers_of_all_passes(make_run: MakeRun) -> None:
    result = select(make_run(budget=5, ranking={"passes": 3}))
    for explanation in every_row(result):
        assert len(explanation.answers) == 3
        assert len({answer.shown for answer in explanation.answers}) == 3
    assert "/" in render_explanation(explanation)


def test_explain_shows_each_tournament_round(make_run: MakeRun) -> None:
    result = select(make_run(rows=60, budget=4, queries={"size": 5}))
    rounds = result.summary["ranking"]["rounds"]
    assert rounds > 1
    winner = explain(result.store, result.table()["id"][0].as_py())
    assert [(round.number, round.rank) for round in winner.rounds] == [(number, 1) for number in range(1, rounds + 1)]
    assert (winner.decision.why, winner.decision.place) == ("tournament", 1)
    assert {answer.round for answer in winner.answers if answer.used} == set(range(rounds + 1))
    losers = [explanation for explanation in every_row(result) if explanation.decision.why == "place"]
    assert "the tournament put it at place" in reason_text(losers[0])
    assert "Tournament, round 1:" in render_explanation(losers[0])
    for explanation in losers:
        assert explanation.rounds[-1].size == len(explanation.answers[-1].shown)


def silent_about(id: str) -> Callable[[Request], str]:
    def answer(request: Request) -> str:
        return "I cannot." if id in request.shown else by_id(request)

    return answer


def test_explain_shows_the_unusable_replies_of_an_abstention(make_run: MakeRun, fake_model: MakeModel) -> None:
    run = make_run(budget=3, ranking={"max_abstained": 1})
    id = explain(select(run).store, "row:7").id
    assert id
    fake_model(silent_about(id))
    result = select(make_run(budget=3, ranking={"max_abstained": 1}, selector="scripted:first"))
    explanation = explain(result.store, id)
    assert explanation.decision.why == "abstained"
    assert [(answer.attempt, answer.outcome, answer.used) for answer in explanation.answers] == [
        (attempt, "unreadable", False) for attempt in (1, 2, 3, 4)
    ]
    assert {answer.text for answer in explanation.answers} == {"I cannot."}
    assert "(not used)" in render_explanation(explanation)


def test_explain_shows_both_answers_of_a_question_asked_twice(make_run: MakeRun, fake_model: MakeModel) -> None:
    fake_model(lambda request: "no" if request.attempt == 1 else by_id(request))
    result = select(make_run(budget=5))
    for explanation in every_row(result):
        assert [(answer.attempt, answer.used) for answer in explanation.answers] == [(1, False), (2, True)]


def test_explain_uses_the_rank_when_the_tournament_has_no_answer(make_run: MakeRun, fake_model: MakeModel) -> None:
    fake_model(lambda request: "no" if "round" in request.question else by_id(request))
    result = select(make_run(budget=3, ranking={"max_abstained": 1}))
    explanation = explain(result.store, result.table()["id"][0].as_py())
    assert (explanation.decision.chosen, explanation.decision.why) == (True, "rank")
    assert "by its rank alone" in reason_text(explanation)
    assert [(round.size, round.rank) for round in explanation.rounds] == [(None, None)]
    in_tournament = [answer for answer in explanation.answers if answer.round]
    assert {answer.used for answer in in_tournament} == {False}
    assert {answer.question.split(",")[0] for answer in in_tournament} == {"query 0 of round 1"}
    assert "no answer could be used" in render_explanation(explanation)


def test_explain_ignores_replies_to_other_runs(make_run: MakeRun) -> None:
    result = select(make_run(budget=5))
    before = every_row(result)
    for fields in ({"seed": 1}, {"queries": {"size": 7}}, {"ranking": {"depth": 5}}, {"budget": 20}):
        select(make_run(**{"budget": 5, **fields}))
    assert [explain(result.store, explanation.id or "", before[0].run) for explanation in before] == before


def test_explain_uses_scores_for_pointwise_ranking(make_run: MakeRun, fake_model: MakeModel) -> None:
    def answer(request: Request) -> Reply:
        yes = (int(request.shown[0], 16) % 97 + 1) / 100
        odds = {"yes": yes, "no": 1 - yes} if request.shown[0][0] != "0" else {"maybe": 1.0}
        return Reply("yes", "stop", 5, 1, logprobs={word: math.log(p) for word, p in odds.items()})

    model = fake_model(answer)
    model.info = ModelInfo("fake", "fake", "fake-digest", "1", "model", "pointwise")
    result = select(make_run(budget=7, ranking={"max_abstained": 1}))
    whys = set()
    for explanation in every_row(result):
        assert len(explanation.answers) == 1
        assert (explanation.decision.why == "abstained") == explanation.id.startswith("0")  # type: ignore[union-attr]
        whys.add(explanation.decision.why)
    assert {"rank", "score", "place", "tier"} & whys >= {"score", "place"}
    assert "its score puts it" in reason_text(explain(result.store, result.table()["id"][-1].as_py()))


def test_explain_gives_the_reason_of_quarantined_and_repeated_rows(make_run: MakeRun, tmp_path: Path) -> None:
    lines = ['{"instruction": "One"}', "{broken \x1b[31m", '{"instruction": "One"}', '{"instruction": "Two"}']
    store = select(make_run(pool=written(tmp_path, *lines), budget=1)).store
    broken = explain(store, "row:2")
    assert (broken.id, broken.decision.chosen, broken.decision.why) == (None, False, "quarantined")
    assert "not valid JSON" in reason_text(broken)
    assert "\x1b" not in render_explanation(broken)
    repeat = explain(store, "row:3")
    assert (repeat.row, repeat.repeat) == (1, 3)
    assert repeat.id == explain(store, "row:1").id
    assert "Row 3, which repeats row 1" in render_explanation(repeat)


@pytest.mark.parametrize("option", ["exclude", "history"])
def test_explain_names_what_excluded_a_row(option: str, make_run: MakeRun, tmp_path: Path) -> None:
    first = select(make_run(budget=5, **({"history": "weekly", "slot": "monday"} if option == "history" else {})))
    chosen = first.table()["id"].to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(chosen) + "\n")
    fields = {"exclude": (str(tmp_path / "ids.txt"),)} if option == "exclude" else {"history": "weekly"}
    result = select(make_run(budget=5, **fields))
    for id in chosen:
        explanation = explain(result.store, id)
        assert (explanation.decision.chosen, explanation.decision.why) == (False, "excluded")
        assert explanation.rank == 1
        assert ("ids.txt" if option == "exclude" else "weekly, slot monday") in reason_text(explanation)
    for explanation in every_row(result):
        assert explanation.decision.why != "unknown"


def test_explain_of_a_filled_slot_uses_the_run_that_filled_it(make_run: MakeRun) -> None:
    first = select(make_run(budget=5, history="weekly", slot="monday"))
    again = select(make_run(budget=5, history="weekly", slot="monday", seed=1))
    assert again.table() == first.table()
    for explanation in every_row(first):
        assert explanation.decision.why in ("rank", "tier", "unranked")


@pytest.mark.parametrize("length", [4, 9, 32])
def test_an_id_can_be_shortened_and_uppercase(length: int, make_run: MakeRun) -> None:
    result = select(make_run(rows=30, budget=5))
    for id in result.table("pool")["id"].to_pylist():
        assert explain(result.store, id[:length].upper()).id == id


def test_explain_can_name_an_earlier_run(make_run: MakeRun) -> None:
    result = select(make_run(budget=5))
    (name,) = result.store.list("runs")
    run = name.removeprefix("runs/").removesuffix(".json")
    select(make_run(rows=40, budget=6))
    assert explain(result.store, "row:1").selected == 6
    explanation = explain(result.store, "row:1", run)
    assert (explanation.run, explanation.selected) == (run, 5)


@pytest.mark.parametrize(
    ("id", "run", "message"),
    [
        ("abc", None, "at least its first 4"),
        ("not an id", None, "row:17"),
        ("\x1b[31m", None, "row:17"),
        ("f" * 33, None, "is no id"),
        ("ffffffff", None, "begins with ffffffff"),
        ("row:0", None, "no row 0"),
        ("row:61", None, "no row 61"),
        ("row:999999999999999999", None, "no row"),
        ("row:x", None, "is no id"),
        ("row:1", "nosuch", "The latest: 2"),
        ("row:1", "../latest/selection", "is no name of a run"),
    ],
)
def test_an_unknown_row_or_run_is_an_error_that_says_what_to_do(
    id: str, run: str | None, message: str, make_run: MakeRun
) -> None:
    store = select(make_run(budget=5)).store
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        explain(store, id, run)


def test_an_ambiguous_id_prefix_lists_the_matching_ids(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.explain.explain.MIN_DIGITS", 0)
    store = select(make_run(budget=5)).store
    with pytest.raises(UsageError, match=r"begins several ids: [0-9a-f]{32}(, [0-9a-f]{32}){4} and more"):
        explain(store, "")


def test_explain_of_a_store_without_a_run_is_one_error_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "row:1", "--store", str(tmp_path / "none")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "selectllm select" in printed.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b"{}", b'{"run": "x", "summary": {"artifacts": 5}}'])
def test_an_unreadable_run_record_is_one_clear_error(torn: bytes, make_run: MakeRun) -> None:
    store = select(make_run(budget=5)).store
    store.write_bytes("latest/selection.json", torn)
    with pytest.raises(StoreError, match="is not the record of a run"):
        explain(store, "row:1")


@pytest.mark.parametrize("kind", ["pool", "queries", "rankings", "tournament", "selection"])
def test_a_missing_table_is_one_clear_error(kind: str, make_run: MakeRun) -> None:
    result = select(make_run(budget=7))
    result.store.remove(Artifact(kind=kind, key=result.summary["artifacts"][kind]))
    with pytest.raises(StoreError, match=r"[Rr]un (it )?again"):
        explain(result.store, "row:1")


def test_explain_works_from_tables_when_replies_are_missing(make_run: MakeRun) -> None:
    result = select(make_run(rows=60, budget=4, queries={"size": 5}))
    before = {explanation.id: explanation for explanation in every_row(result)}
    for folder in result.store.list("replies"):
        for name in result.store.list(folder):
            result.store.remove_file(name)
    for explanation in every_row(result):
        assert explanation.answers == ()
        assert explanation.decision == before[explanation.id].decision
        assert [round.rank for round in explanation.rounds] == [round.rank for round in before[explanation.id].rounds]


def test_explain_sanitizes_hostile_rows_and_replies(
    make_run: MakeRun, fake_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: Request) -> str:
        return "\x1b]0;owned\x07\u202e\x9b31m" + "e" + "\u0301" * 5000 + "\n" + by_id(request)

    fake_model(answer)
    lines = [
        json.dumps({name: row[name] for name in ("instruction", "input") if name in row}) for row in hostile.rows()
    ]
    result = select(make_run(pool=written(tmp_path, *lines), budget=5))
    capsys.readouterr()
    for row in range(1, len(lines) + 1):
        assert main(["explain", f"row:{row}", "--store", result.store.location]) == 0
        printed = capsys.readouterr().out
        assert all(line.isprintable() for line in printed.split("\n"))
        assert "\u0301" * 9 not in printed
        assert max(map(len, printed.split("\n"))) < 2_500


def test_explain_json_contains_the_whole_explanation(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    result = select(make_run(budget=7))
    assert main(["explain", "row:3", "--json", "--store", result.store.location]) == 0
    printed = capsys.readouterr().out
    explanation = explain(result.store, "row:3")
    assert json.loads(printed) == json.loads(json.dumps(explanation.record()))
    assert json.loads(printed)["answers"][0]["shown"] == list(explanation.answers[0].shown)


def test_explain_reads_object_stores(make_run: MakeRun) -> None:
    fsspec.filesystem("memory").store.clear()
    result = select(make_run(budget=7, store="memory://explain"))
    assert all(explanation.answers for explanation in every_row(result))
    fsspec.filesystem("memory").store.clear()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "selectllm explain row:17" in " ".join(printed.split())
