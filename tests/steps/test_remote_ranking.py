"""Ranking in other processes: batches start in order, within the limits of the run."""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import pytest

from selectllm import pipeline, select
from selectllm.errors import CostExceeded, TooManyAbstained
from selectllm.execution import WorkItem
from selectllm.llm.hosts import HostPool
from selectllm.settings import RankingSettings, RunSettings
from selectllm.steps.context import Context
from selectllm.steps.rank import Batch
from selectllm.store import Store
from tests.conftest import FakeModel

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")


class Workers:
    """Two workers from the view of the run. The pieces run in this process."""

    workers = 2
    is_remote = True

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.shares: Sequence[int] = []
        self.is_closed = False

    def map(
        self, function: Callable[[WorkItem[Any]], Any], items: Iterable[Any], shares: Sequence[int]
    ) -> Generator[Any, None, None]:
        try:
            for item in items:
                if isinstance(item, Batch):
                    self.batches.append(item)
                    self.shares = shares
                yield function(WorkItem(item, shares[0]))
        finally:
            self.is_closed = True


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    monkeypatch.setattr("selectllm.steps.rank.REMOTE_BATCH_SIZE", 10)
    return Workers()


def run(settings: RunSettings, workers: Workers) -> Any:
    return pipeline.run(Context(settings, Store(settings.store), executor=workers))


def test_remote_batches_give_the_same_ranks_as_one_process(
    make_run: MakeRun, workers: Workers, fake_model: Callable[..., FakeModel], tmp_path: Any
) -> None:
    fake_model()
    settings = make_run(rows=240, queries={"size": 4}, ranking={"concurrency": 3})
    by_workers = run(settings, workers)
    here = select(settings.model_copy(update={"store": str(tmp_path / "here")}))
    assert by_workers.table("rankings").equals(here.table("rankings"))
    assert [len(batch.queries) for batch in workers.batches] == [10] * 6
    assert workers.shares == [2, 1], "the concurrency is divided among the workers"


def test_no_batch_starts_after_the_cost_limit(
    make_run: MakeRun, workers: Workers, fake_model: Callable[..., FakeModel]
) -> None:
    model = fake_model()  # 10 tokens of a prompt and 2 of an answer, each time
    prices = {"price_in": 1e6, "price_out": 2e6, "max_cost": 300}
    with pytest.raises(CostExceeded, match=r"cost 308.*--max-cost is 300"):
        run(make_run(rows=240, queries={"size": 4}, ranking=prices | {"concurrency": 1}), workers)
    assert (len(workers.batches), len(model.asked), workers.is_closed) == (3, 22, True)
    assert [batch.job.paid_before for batch in workers.batches] == [(0, 0), (100, 20), (200, 40)]


def test_no_batch_starts_after_too_many_abstentions(
    make_run: MakeRun, workers: Workers, fake_model: Callable[..., FakeModel]
) -> None:
    fake_model(lambda _: "I would rather talk.")
    with pytest.raises(TooManyAbstained):
        run(make_run(rows=240, queries={"size": 4}), workers)
    assert (len(workers.batches), workers.is_closed) == (1, True)


def test_batches_of_a_model_server_are_sent_by_the_run_itself(
    make_run: MakeRun, workers: Workers, fake_model: Callable[..., FakeModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fake_model()

    async def open_batch_pool(*_: object) -> HostPool:
        return HostPool([model], RankingSettings(), model.info)

    monkeypatch.setattr("selectllm.llm.batch_pool.open_batch_pool", open_batch_pool)
    run(make_run(rows=240, queries={"size": 4}, selector="openai:m", ranking={"batch": True}), workers)
    assert workers.batches == []
    assert len(model.asked) >= 60
