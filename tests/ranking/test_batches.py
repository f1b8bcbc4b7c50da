import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from selectllm.errors import ModelError
from selectllm.llm.model import Reply, Request
from selectllm.ranking.batches import Query, Rank, rank_queries
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker, RankingOptions
from tests.conftest import FakeModel, by_id, make_caller


def queries(count: int, size: int = 4, ranked: int = 0) -> list[Query]:
    return [
        Query(number, tuple(Candidate(f"{number:03}-{row}", f"Task {number} {row}") for row in range(size)), ranked)
        for number in range(count)
    ]


def run(model: FakeModel, folder: Path, asked: list[Query], depth: int = 2) -> list[Rank]:
    async def ask() -> list[Rank]:
        ranker = Ranker(make_caller(model, folder, concurrency=2), RankingOptions())
        return (await rank_queries(asked, depth, ranker)).ranks

    return asyncio.run(ask())


def test_ranks_are_in_the_order_of_the_queries(tmp_path: Path) -> None:
    ranks = run(FakeModel(by_id), tmp_path, queries(30))
    assert [(rank.query_id, rank.rank, rank.id) for rank in ranks] == [
        (number, rank, f"{number:03}-{rank - 1}") for number in range(30) for rank in (1, 2)
    ]
    assert all(rank.reply and rank.score is None for rank in ranks)


def test_later_ranks_continue_the_earlier_ranks_and_are_labelled_so(tmp_path: Path) -> None:
    model = FakeModel(by_id)
    assert [rank.rank for rank in run(model, tmp_path, queries(1, ranked=3))] == [4, 5]
    assert model.asked[0].question == "query 0 from rank 4"


def test_a_query_of_one_row_needs_no_request(tmp_path: Path) -> None:
    model = FakeModel(by_id)
    assert run(model, tmp_path, queries(1, size=1)) == [Rank(0, 1, "000-0", None, "")]
    assert not model.asked


def test_a_query_that_abstains_has_no_ranks(tmp_path: Path) -> None:
    model = FakeModel(lambda request: "no" if "001-0" in request.shown else by_id(request))
    assert {rank.query_id for rank in run(model, tmp_path, queries(3))} == {0, 2}


def test_pointwise_candidates_are_ranked_by_their_scores(tmp_path: Path) -> None:
    odds = {"000-0": -2.0, "000-1": -0.1, "000-2": -0.1}

    def answer(request: Request) -> Reply:
        (id,) = request.shown
        return Reply("", "length", logprobs={" yes": odds[id], " no": -1.0} if id in odds else {})

    model = FakeModel(answer)
    model.info = dataclasses.replace(model.info, mode="pointwise")
    ranks = run(model, tmp_path, queries(1))
    assert [(rank.rank, rank.id) for rank in ranks] == [(1, "000-1"), (2, "000-2"), (3, "000-0")]
    assert [rank.score for rank in ranks] == [pytest.approx(0.9), pytest.approx(0.9), pytest.approx(-1.0)]
    assert sorted(request.question for request in model.asked)[0] == "candidate 000-0 of query 0"


@pytest.mark.parametrize("mode", ["listwise", "pointwise"])
def test_only_a_few_queries_are_started_at_once(mode: str, tmp_path: Path) -> None:
    most = 0

    class Counting(FakeModel):
        async def answer(self, request: Request) -> Reply:
            nonlocal most
            most = max(most, len(asyncio.all_tasks()))
            return await super().answer(request)

    model = Counting(
        lambda request: by_id(request) if request.schema else Reply("", "length", logprobs={"yes": -1.0, "no": -1.0})
    )
    model.info = dataclasses.replace(model.info, mode=mode)  # type: ignore[arg-type]
    assert len({rank.query_id for rank in run(model, tmp_path, queries(100, size=3))}) == 100
    assert most < 60


def test_no_more_tasks_are_begun_than_there_are_queries(tmp_path: Path) -> None:
    begun = []

    def begin(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
        begun.append(work)
        return asyncio.Task(work, loop=loop, **options)

    async def ask() -> list[Rank]:
        ranker = Ranker(make_caller(FakeModel(by_id), tmp_path, concurrency=2), RankingOptions())
        ranker.window = 10_000  # with --batch even more
        asyncio.get_running_loop().set_task_factory(begin)
        return (await rank_queries(iter(queries(3)), 2, ranker)).ranks

    assert len(asyncio.run(ask())) == 6
    assert len(begun) < 100


def test_a_failure_of_one_query_ends_all_queries(tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        if "005-0" in request.shown:
            raise ModelError("gone")
        return by_id(request)

    model = FakeModel(answer)
    with pytest.raises(ModelError, match="gone"):
        run(model, tmp_path, queries(1000))
    assert len(model.asked) < 50
