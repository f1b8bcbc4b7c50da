"""Runs that gather rows by ratings: what they ask, what they keep, and what they choose."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from selectllm import plan_run, select
from selectllm.cli import main as cli
from selectllm.errors import CostExceeded, UsageError
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.llm.model import Reply, Request
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.steps.look import gathers_ratings
from selectllm.store import Artifact, Store
from tests.conftest import by_id, top_k

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def run(make_run: MakeRun, **fields: Any) -> RunSettings:
    """Settings of a run of twenty queries of ten rows that may ask ten further questions."""
    ranking = {"gather": "ratings", "looks": 0.5, "think": "off"} | fields.pop("ranking", {})
    return make_run(**{"rows": 200, "budget": 15, "queries": {"size": 10}, "ranking": ranking} | fields)


def chosen(result: Result) -> list[str]:
    return list(result.table()["id"].to_pylist())


def unsure(request: Request) -> str:
    """A judge by ids that errs now and then, in the same way about the same question."""
    rng = random.Random(request.text)
    worth = {id: int(id[:8], 16) / 2**32 + rng.gauss(0, 0.15) for id in request.shown}
    order = sorted(range(len(request.shown)), key=lambda place: worth[request.shown[place]])
    return json.dumps({"ranking": [place + 1 for place in order[: top_k(request)]]})


def test_the_best_rated_rows_are_chosen_and_rated_again_near_the_cut(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model()
    result = select(run(make_run))
    ratings = {row["id"]: row for row in result.table("ratings").to_pylist()}
    rows = result.table().to_pylist()
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert all(row["score"] == ratings[row["id"]]["rating"] for row in rows)
    assert {row["picked_by"] for row in rows} == {"rating"}
    assert 20 < len(model.asked) <= 30
    assert result.summary["ratings"]["looks"] == len(model.asked) - 20
    best = sorted(result.table("pool")["id"].to_pylist())[:15]
    assert len(set(best) & set(chosen(result))) >= 13, "the model prefers lower ids"
    assert all(row["answers"] >= 1 for row in ratings.values())
    looked_at = {id for request in model.asked[20:] for id in request.shown}
    assert {id for id, row in ratings.items() if row["round"]} == looked_at


def test_further_looks_find_more_of_the_best_rows(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(unsure)
    best = set(sorted(select(run(make_run, strategy="longest")).table("pool")["id"].to_pylist())[:15])
    found = [len(best & set(chosen(select(run(make_run, ranking={"looks": looks}))))) for looks in (0, 0.5, 2)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_a_second_run_asks_nothing_and_chooses_the_same(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model(unsure)
    first = select(run(make_run))
    asked = len(model.asked)
    again = select(run(make_run))
    assert len(model.asked) == asked
    assert (chosen(again), again.summary["artifacts"]) == (chosen(first), first.summary["artifacts"])
    assert set(again.summary["cached"]) == set(again.summary["seconds"])


def test_another_budget_asks_for_its_own_cut_and_learns_from_the_first(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model(unsure)
    first = select(run(make_run))
    asked = len(model.asked)
    other = select(run(make_run, budget=20))
    assert len(model.asked) - asked <= 10
    looks = [result.table("looks") for result in (first, other)]
    assert looks[1].slice(0, len(looks[0])).equals(looks[0]), "what was learned for the first counts"
    shown = [frozenset(request.shown) for request in model.asked]
    assert len(set(shown)) == len(shown), "no rows are asked about together twice"
    assert chosen(select(run(make_run))) == chosen(first), "and the first stays as it was"


@pytest.mark.parametrize("questions", [3, 20, 22, 26, 29])
def test_a_run_that_is_stopped_ends_in_the_same_selection(
    questions: int, make_run: MakeRun, fake_model: Any, tmp_path: Path
) -> None:
    model = fake_model(unsure)
    ranking = {"price_in": 1e6 / 10, "concurrency": 1}  # each prompt has ten tokens, and costs 1
    undisturbed = select(run(make_run, store=str(tmp_path / "other"), ranking=ranking))
    asked = len(model.asked)
    with pytest.raises(CostExceeded):
        select(run(make_run, ranking=ranking | {"max_cost": questions}))
    stopped = len(model.asked) - asked
    assert stopped < asked
    assert chosen(select(run(make_run, ranking=ranking))) == chosen(undisturbed)
    assert len(model.asked) == 2 * asked, "no question is asked twice"


def test_excluded_rows_are_neither_asked_about_again_nor_chosen(
    make_run: MakeRun, fake_model: Any, tmp_path: Path
) -> None:
    model = fake_model()
    first = select(run(make_run))
    named = tmp_path / "named.txt"
    named.write_text("\n".join(chosen(first)))
    asked = len(model.asked)
    second = select(run(make_run, exclude=(str(named),)))
    assert not set(chosen(first)) & set(chosen(second))
    assert not set(chosen(first)) & {id for request in model.asked[asked:] for id in request.shown}


def test_runs_of_a_history_choose_different_rows(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(unsure)
    slots = [select(run(make_run, history="nightly", slot=slot)) for slot in "abca"]
    ids = [chosen(result) for result in slots]
    assert len(set(ids[0] + ids[1] + ids[2])) == 45
    assert ids[3] == ids[0]


def test_every_pass_is_evidence(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(unsure)
    settings = run(make_run, ranking={"passes": 3, "looks": 0})
    result = select(settings)
    rankings = result.store.manifest(result.store.manifests("rankings")[-1].artifact)
    assert rankings is not None
    passes = pq.read_table(result.store.path(result.store.manifests("passes")[-1].artifact)).to_pylist()
    assert len({(row["query_id"], row["number"]) for row in passes}) == 3 * 20
    assert result.table("ratings")["answers"].to_pylist() == [3] * 200


def test_passes_that_are_gone_are_made_again_from_the_ledger(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model(unsure)
    settings = run(make_run, ranking={"passes": 2})
    first = select(settings)
    asked = len(model.asked)
    for kind in ("passes", "ratings", "selection"):
        for manifest in first.store.manifests(kind):
            Path(first.store.path(manifest.artifact)).unlink()
    assert chosen(select(settings)) == chosen(first)
    assert len(model.asked) == asked


def test_looks_without_a_usable_answer_are_counted_and_change_nothing(make_run: MakeRun, fake_model: Any) -> None:
    def answer(request: Request) -> Reply | str:
        return "I cannot say." if top_k(request) == 10 else by_id(request)

    fake_model(answer)
    result = select(run(make_run, ranking={"max_abstained": 1}))
    ranking = result.summary["ranking"]
    assert ranking["abstained"] == result.summary["ratings"]["looks"] > 0
    assert all(name.startswith("look ") for name in ranking["abstained_questions"])
    assert set(result.table("ratings")["answers"].to_pylist()) == {1}
    with pytest.raises(Exception, match="gave no usable answer to look"):
        select(run(make_run, budget=16, ranking={"max_abstained": 0.05}))


def test_the_plan_counts_further_looks(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model(unsure)
    settings = run(make_run, selector="ollama:m")
    plan = plan_run(settings)["ranking"]
    assert (plan["ranking_calls"], plan["look_calls"], plan["tournament_calls"], plan["calls"]) == (20, 10, 0, 30)
    select(settings)
    assert len(model.asked) <= plan["calls"]
    everything = plan_run(run(make_run, budget=200, ranking={"depth": 10}))["ranking"]
    assert everything["look_calls"] == 0


def test_the_way_to_gather_follows_the_selector_and_the_composition(make_run: MakeRun) -> None:
    def gathers(mode: Any, **fields: Any) -> bool:
        return gathers_ratings(run(make_run, **fields), mode)

    auto = {"ranking": {"gather": "auto"}}
    assert gathers("listwise", selector="ollama:m", **auto)
    assert not gathers("listwise", selector="ollama:m", ranking={"gather": "tiers"})
    assert not gathers("listwise", selector="ollama:m", queries={"composition": "paper"}, **auto)
    assert not gathers("listwise", selector="scripted:longest", **auto)
    assert not gathers("pointwise", selector="embedded", **auto)
    assert gathers("listwise", selector="scripted:longest")
    with pytest.raises(UsageError, match="pointwise model scores each row by itself"):
        gathers("pointwise", selector="embedded")


def test_the_command_line_says_how_rows_were_gathered(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = run(make_run)
    command = ["select", settings.pool, "--budget", "15", "--selector", "scripted:longest", "--query-size", "10"]
    command += ["--store", settings.store, "--no-validate", "--gather", "ratings", "--looks", "0.5"]
    assert cli.main(command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Gathered by ratings, with " in shown
    assert "expected not to be among the best 15 by the model's own judgement" in shown
    assert ", ranked 1 in query" in shown


def test_explain_shows_ratings_and_looks(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(unsure)
    result = select(run(make_run))
    store = Store(str(result.store.location))
    ratings = {row["id"]: row for row in result.table("ratings").to_pylist()}
    looked_at = next(row["id"] for row in result.table().to_pylist() if ratings[row["id"]]["round"])
    explanation = explain(store, looked_at)
    assert explanation.decision.why == "rating"
    assert len(explanation.looks) + 1 == ratings[looked_at]["answers"]
    assert sum(answer.used for answer in explanation.answers) == ratings[looked_at]["answers"]
    text = render_explanation(explanation)
    assert f"rated {ratings[looked_at]['rating']:+.2f}, give or take" in text
    assert "Further look, round" in text
    left_out = next(id for id in ratings if id not in chosen(result))
    assert explain(store, left_out).decision.why == "place"


def test_looks_that_are_damaged_are_made_again_on_top_of_the_same_ones(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model(unsure)
    first = select(run(make_run))
    select(run(make_run, budget=20))  # later looks, which the damaged ones were not made from
    asked = len(model.asked)
    path = Path(first.store.path(Artifact(kind="looks", key=first.summary["artifacts"]["looks"])))
    path.write_bytes(path.read_bytes()[:-100])
    again = select(run(make_run))
    assert again.summary["artifacts"] == first.summary["artifacts"]
    assert chosen(again) == chosen(first)
    assert len(model.asked) == asked
