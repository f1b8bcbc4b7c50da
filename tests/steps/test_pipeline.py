import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selectllm import select
from selectllm.errors import CostExceeded, ModelError, TooFewRanked, TooManyAbstained, TransientError, UsageError
from selectllm.llm.model import Reply, Request
from selectllm.report.result import Result
from selectllm.settings import QualitySettings, RunSettings
from tests.conftest import FakeModel, HashEmbedder, by_id, top_k

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def adds_up(summary: dict[str, Any]) -> bool:
    pool = summary["pool"]
    return pool["rows_read"] == pool["quarantined"] + pool["duplicates"] + pool["kept"]


def test_a_run_writes_all_documented_results(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(rows=60, budget=7, out=str(tmp_path / "out"))
    result = select(run)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "quarantine.parquet",
        "selection.jsonl",
        "selection.parquet",
        "summary.json",
    ]
    table = pq.read_table(out / "selection.parquet")
    lines = [json.loads(line) for line in (out / "selection.jsonl").read_text(encoding="utf-8").splitlines()]
    assert table.column_names == [
        "order", "id", "instruction", "input", "strategy", "score", "query_id", "round", "rank", "picked_by", "tag",
    ]  # fmt: skip
    assert [line["id"] for line in lines] == table["id"].to_pylist()
    assert all("input" not in line for line in lines)
    assert table["order"].to_pylist() == list(range(1, 8))
    summary = json.loads((out / "summary.json").read_text())
    assert summary == result.summary
    assert adds_up(summary)
    assert summary["selection"] == {"budget": 7, "selected": 7, "excluded": 0}
    assert summary["queries"] == {"count": 5, "size": 14, "composition": "matched"}
    assert summary["ranking"]["asked"] == 6
    assert summary["model"]["kind"] == "scripted"
    assert set(summary["artifacts"]) == {
        "pool", "quarantine", "embeddings", "queries", "rankings", "tournament", "preferences", "selection",
    }  # fmt: skip
    latest = json.loads((Path(run.store) / "v1/latest/selection.json").read_text())
    assert latest["summary"] == summary
    assert (Path(run.store) / f"v1/runs/{latest['run']}.json").is_file()


def test_a_second_run_is_cached_and_sends_no_request(make_run: MakeRun, quick_embedding: type[HashEmbedder]) -> None:
    first = select(make_run(budget=7))
    embedded = quick_embedding.texts
    second = select(make_run(budget=7))
    assert second.summary["ranking"]["asked"] == 0
    assert second.summary["ranking"]["from_ledger"] == first.summary["ranking"]["asked"]
    assert second.summary["artifacts"] == first.summary["artifacts"]
    assert set(second.summary["cached"]) == set(second.summary["seconds"])
    assert quick_embedding.texts == embedded


@pytest.mark.parametrize("budget", [1, 4, 5, 6, 15, 16, 59, 60])
def test_any_budget_up_to_the_pool_size_is_selected_exactly(budget: int, make_run: MakeRun) -> None:
    chosen = select(make_run(rows=60, budget=budget)).table()
    assert len(chosen) == len(set(chosen["id"].to_pylist())) == budget


def test_another_budget_within_the_depth_needs_only_tournament_requests(make_run: MakeRun) -> None:
    assert select(make_run(budget=6)).summary["ranking"]["asked"] == 5 + 1
    assert select(make_run(budget=8)).summary["ranking"]["asked"] == 0, "the same tier is cut"
    assert select(make_run(budget=10)).summary["ranking"]["asked"] == 0, "no tier is cut"
    assert select(make_run(budget=12)).summary["ranking"]["asked"] == 1, "a tier that no earlier budget cut"


def test_the_depth_grows_by_pages_and_only_missing_ranks_are_requested(make_run: MakeRun) -> None:
    assert select(make_run(rows=60, budget=15)).summary["ranking"]["asked"] == 5
    deeper = select(make_run(rows=60, budget=30)).summary["ranking"]
    assert (deeper["asked"], deeper["pages"]) == (5, 2)
    ranks = select(make_run(rows=60, budget=30)).table("rankings")
    assert sorted(set(ranks["rank"].to_pylist())) == [1, 2, 3, 4, 5, 6]


def test_a_budget_above_the_pool_size_is_refused_before_any_request(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model()
    with pytest.raises(UsageError, match="the budget is 61, but the pool holds 60 usable rows"):
        select(make_run(rows=60, budget=61))
    assert not model.asked


def test_a_model_without_usable_answers_fails_the_run_and_replies_are_kept(
    make_run: MakeRun, fake_model: Any, tmp_path: Path
) -> None:
    fake_model(lambda _: "I would rather not.")
    run = make_run(out=str(tmp_path / "out"), ranking={"max_abstained": 1})
    with pytest.raises(TooFewRanked, match="rank 0 rows"):
        select(run)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "store").rglob("selection/*"))
    replies = [line for path in (tmp_path / "store").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(replies) == 5 * 4


def test_a_run_above_the_abstention_limit_stops_and_names_the_queries(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model(lambda _: "I would rather not.")
    run = make_run(rows=600, ranking={"concurrency": 1, "max_abstained": 0.05})  # 43 queries; two can abstain
    with pytest.raises(TooManyAbstained, match=r"query \d+, query \d+, query \d+: more than --max-abstained") as error:
        select(run)
    assert "unreadable" in str(error.value)
    assert len(model.asked) <= 5 * 4, "it stops at the third of 43 queries, and at most two more were started"


def test_places_of_an_abstaining_query_go_to_other_queries(make_run: MakeRun, fake_model: Any) -> None:
    def sullen(request: Request) -> str:
        return "no" if "Task 7:" in request.text else by_id(request)

    fake_model(sullen)
    result = select(make_run(rows=60, budget=14, ranking={"max_abstained": 0.5}))
    assert len(result.table()) == 14
    assert result.summary["ranking"]["abstained"] == 1
    assert result.summary["ranking"]["pages"] == 2


def test_a_model_failure_during_a_run_loses_no_reply(make_run: MakeRun, fake_model: Any) -> None:
    answered = 0

    def dies(request: Request) -> str:
        nonlocal answered
        answered += 1
        if answered > 3:
            raise ModelError("the model is gone")
        return by_id(request)

    fake_model(dies)
    run = make_run(rows=60, budget=7, ranking={"concurrency": 1})
    with pytest.raises(ModelError, match="gone"):
        select(run)
    fake_model(by_id)
    resumed = select(run)
    assert resumed.summary["ranking"]["asked"] == 6 - 3
    undisturbed = select(run.model_copy(update={"store": run.store + "-other"}))
    assert resumed.table().equals(undisturbed.table())


def test_the_order_of_the_answers_does_not_matter(make_run: MakeRun, fake_model: Any, tmp_path: Path) -> None:
    class Late(FakeModel):
        async def answer(self, request: Request) -> Reply:
            await asyncio.sleep(0.001 * (hash(request.text_digest) % 7))
            return await super().answer(request)

    first = select(make_run(budget=7))
    model = fake_model(by_id)
    model.__class__ = Late
    late = select(make_run(budget=7, store=str(tmp_path / "one"), ranking={"concurrency": 16}))
    other = select(make_run(budget=7, store=str(tmp_path / "other"), ranking={"concurrency": 1}))
    assert late.table().equals(other.table())
    assert len(first.table()) == 7


def test_several_passes_are_aggregated_and_their_agreement_is_reported(make_run: MakeRun, fake_model: Any) -> None:
    model = fake_model(by_id)
    summary = select(make_run(rows=60, budget=5, ranking={"passes": 3})).summary
    assert summary["ranking"]["asked"] == len(model.asked) == 15
    assert (summary["ranking"]["ranked"], summary["ranking"]["agreement"]) == (5, 1.0)
    assert len({request.text for request in model.asked}) == 15, "each pass has its own order"
    ids = select(make_run(rows=60, budget=5, ranking={"passes": 3})).table()["id"].to_pylist()
    assert ids == select(make_run(rows=60, budget=5)).table()["id"].to_pylist()


def test_a_position_biased_selector_is_detected(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(lambda request: json.dumps({"ranking": list(range(1, top_k(request) + 1))}))
    biased = select(make_run(rows=1400, budget=100))
    assert biased.summary["ranking"]["position_bias_pvalue"] < 1e-6
    assert biased.summary["ranking"]["constant_answer"] == {"numbers": [1, 2, 3], "share": 1.0}
    fake_model(by_id)
    fair = select(make_run(rows=1400, budget=100, seed=1))
    assert fair.summary["ranking"]["position_bias_pvalue"] > 0.001
    assert fair.summary["ranking"]["constant_answer"] is None


def test_a_run_stops_at_its_cost_limit_and_continues_with_a_higher_limit(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(by_id)  # each request has 10 input and 2 output tokens
    prices = {"concurrency": 1, "price_in": 100_000, "price_out": 0}  # so that a question costs 1
    with pytest.raises(CostExceeded, match=r"cost [34]\.00"):
        select(make_run(budget=5, ranking={**prices, "max_cost": 3}))
    summary = select(make_run(budget=5, ranking={**prices, "max_cost": 30})).summary
    assert summary["cost"]["this_run"] in (1.0, 2.0), "one request may be under way when the run stops"
    assert summary["cost"]["selection"] == 5.0
    assert select(make_run(budget=5)).summary["cost"] is None


def test_the_cost_limit_covers_the_whole_run(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(by_id)
    asked = {"concurrency": 1, "depth": 1, "price_in": 100_000, "max_cost": 8}  # a question costs 1, a page costs 5
    with pytest.raises(CostExceeded, match=r"cost [89]\.00"):
        select(make_run(rows=60, budget=20, ranking=asked))


def test_requests_in_flight_at_the_cost_limit_are_stored(make_run: MakeRun, fake_model: Any) -> None:
    class Slow(FakeModel):
        async def answer(self, request: Request) -> Reply:
            reply = await super().answer(request)
            await asyncio.sleep(0.05 if len(self.asked) > 1 else 0.01)
            return reply

    model = fake_model(by_id)
    model.__class__ = Slow
    with pytest.raises(CostExceeded):
        select(make_run(rows=600, budget=5, ranking={"concurrency": 4, "price_in": 100_000, "max_cost": 1}))
    kept = [line for path in Path(make_run().store).rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(kept) == len(model.asked) == 4


def test_a_lower_abstention_limit_also_applies_to_stored_rankings(make_run: MakeRun, fake_model: Any) -> None:
    def sullen(request: Request) -> str:
        return "no" if "Task 7:" in request.text else by_id(request)

    fake_model(sullen)
    select(make_run(budget=4, ranking={"max_abstained": 0.5}))
    with pytest.raises(TooManyAbstained):
        select(make_run(budget=4, ranking={"max_abstained": 0}))


def test_pointwise_asks_about_every_candidate(make_run: MakeRun, fake_model: Any) -> None:
    def likes_seven(request: Request) -> Reply:
        odds = -0.1 if "Task 7:" in request.text else -3.0
        return Reply(" yes", "length", logprobs={" yes": odds, " no": -1.0})

    model = fake_model(likes_seven)
    model.info = dataclasses.replace(model.info, mode="pointwise")
    result = select(make_run(rows=60, budget=7))
    assert len(model.asked) == 60
    assert "Task 7:" in " ".join(result.table()["instruction"].to_pylist())
    assert result.table("rankings").num_rows == 60


def test_pointwise_no_seed_asks_what_another_has_asked(make_run: MakeRun, fake_model: Any) -> None:
    def answer(request: Request) -> Reply:
        if "Task 7:" in request.text and request.attempt == 1:
            return Reply("perhaps", "length", 10, 1)
        return Reply(" yes", "length", 10, 1, logprobs={" yes": -0.001 * len(request.text), " no": -1.0})

    model = fake_model(answer)
    model.info = dataclasses.replace(model.info, mode="pointwise")
    fields: dict[str, Any] = {"rows": 60, "budget": 7, "ranking": {"reask": True}}
    select(make_run(**fields, seed=3))
    assert [request.seed for request in model.asked] == [0] * 60
    tried_again = select(make_run(**fields, seed=4)).summary["ranking"]
    assert [(request.seed, request.attempt) for request in model.asked[60:]] == [(1, 2)], "only what had no answer"
    assert (tried_again["asked"], tried_again["from_ledger"]) == (1, 60)
    for seed in (0, 5):
        assert select(make_run(**fields, seed=seed)).summary["ranking"]["asked"] == 0
    assert len(model.asked) == 61


def test_clipped_candidates_are_counted(make_run: MakeRun) -> None:
    run = make_run(rows=60, ranking={"candidate_chars": 100})
    assert select(run).summary["ranking"]["clipped"] > 0
    assert select(make_run(rows=60)).summary["ranking"]["clipped"] == 0


def test_results_of_lost_replies_are_computed_again(make_run: MakeRun, fake_model: Any) -> None:
    fake_model(by_id)
    first = select(make_run(budget=8))
    chosen = first.table()
    Path(first.path("rankings")).unlink()
    for path in Path(make_run().store).rglob("*.jsonl"):
        path.unlink()

    def other_way_round(request: Request) -> str:
        ranking = json.loads(by_id(request))["ranking"]
        others = [number for number in range(1, len(request.shown) + 1) if number not in ranking]
        return json.dumps({"ranking": (others + ranking)[: top_k(request)]})

    fake_model(other_way_round)
    again = select(make_run(budget=8))
    assert set(again.table()["id"].to_pylist()) <= set(again.table("rankings")["id"].to_pylist())
    assert not again.table().equals(chosen)


def test_the_next_run_repeats_queries_that_failed_with_a_host(make_run: MakeRun, fake_model: Any) -> None:
    def fails_one(request: Request) -> str:
        if "Task 7:" in request.text:
            raise TransientError("busy", "busy")
        return by_id(request)

    fake_model(fails_one)
    run = make_run(rows=60, budget=5, ranking={"max_abstained": 0.5, "retries": 0})
    first = select(run).summary
    assert (first["ranking"]["abstained"], first["ranking"]["errors_by_kind"]) == (1, {"busy": 1, "given up": 1})
    fake_model(by_id)
    second = select(run).summary
    assert (second["ranking"]["abstained"], second["ranking"]["asked"]) == (0, 1)
    assert select(run).summary["ranking"]["asked"] == 0


def test_numbers_that_json_cannot_represent_are_null(make_run: MakeRun, tmp_path: Path) -> None:
    pool = tmp_path / "nan.jsonl"
    pool.write_text('{"instruction": "one", "weight": NaN}\n{"instruction": "two", "weight": 1.5}\n')
    select(make_run(pool=str(pool), budget=2, out=str(tmp_path / "out")))
    text = (tmp_path / "out" / "selection.jsonl").read_text()
    assert {json.loads(line)["weight"] for line in text.split("\n") if line} == {None, 1.5}
    assert "NaN" not in text


def test_planning_can_be_repeated(make_run: MakeRun) -> None:
    import selectllm

    assert selectllm.plan_run(make_run()) == selectllm.plan_run(make_run())


@pytest.mark.parametrize(("rows", "budget"), [(1, 1), (2, 1), (13, 13), (15, 2)])
def test_small_pools_work(rows: int, budget: int, make_run: MakeRun) -> None:
    result = select(make_run(rows=rows, budget=budget))
    assert len(result.table()) == budget
    assert result.summary["ranking"]["asked"] == (0 if rows == 1 else result.summary["ranking"]["ranked"])


@pytest.mark.asyncio
async def test_a_run_works_inside_a_running_event_loop(make_run: MakeRun) -> None:
    assert len(select(make_run()).table()) == 5


@given(
    texts=st.lists(st.text(min_size=1), min_size=3, max_size=30, unique=True),
    budget=st.integers(1, 3),
    seed=st.integers(0, 3),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts_give_a_selection_of_exactly_the_budget(
    texts: list[str], budget: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "pool.jsonl").write_text("\n".join(json.dumps({"instruction": text}) for text in texts))
    run = RunSettings(
        pool=str(folder / "pool.jsonl"),
        budget=budget,
        seed=seed,
        selector="scripted:first",
        store=str(folder),
        quality=QualitySettings(no_validate=True),
    )
    try:
        result = select(run)
    except UsageError:
        assert len({text.strip() for text in texts} - {""}) < len(texts)
        return
    assert len(result.table()) == budget
    assert adds_up(result.summary)


def test_a_run_works_on_the_real_pool(shared: Path, tmp_path: Path) -> None:
    def run(budget: int) -> Result:
        return select(
            RunSettings(
                pool=str(shared / "dolly_3k.jsonl"),
                budget=budget,
                selector="scripted:longest",
                store=str(tmp_path),
                out=str(tmp_path / str(budget)),
                quality=QualitySettings(no_validate=True),
            )
        )

    chosen: dict[int, pa.Table] = {budget: run(budget).table() for budget in (100, 1000, 2000)}
    assert {budget: len(table) for budget, table in chosen.items()} == {100: 100, 1000: 1000, 2000: 2000}
    summary = run(1000).summary
    assert summary["pool"] == {"rows_read": 2996, "quarantined": 0, "duplicates": 15, "kept": 2981}
    assert summary["queries"]["count"] == 213
    ids = {budget: table["id"].to_pylist() for budget, table in chosen.items()}
    assert set(ids[100]) < set(ids[1000]) < set(ids[2000])
    assert "output" in pq.read_table(tmp_path / "100" / "selection.parquet").column_names
    assert "category" in chosen[100].column_names
