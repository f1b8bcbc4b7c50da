"""Whole runs in batches: the same selection, the same replies, at half the price."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from selectllm import select
from selectllm.errors import CostExceeded, SelectorUnavailable
from selectllm.llm.context_guard import warn_once
from selectllm.plan import plan_run
from selectllm.report.format import format_plan
from selectllm.settings import RunSettings
from tests.llm.batch_server import BatchServer
from tests.llm.openai_server import RankingServer, serve

pytestmark = pytest.mark.usefixtures("no_openai_environment", "quick_embedding", "no_pauses")

MakeRun = Callable[..., RunSettings]
FIELDS: dict[str, Any] = {"rows": 140, "budget": 20, "selector": "openai:m", "queries": {"size": 7}}


@pytest.fixture
def server() -> BatchServer:
    warn_once.cache_clear()
    return BatchServer()


@pytest.fixture
def url(server: BatchServer) -> Iterator[str]:
    with serve(server.app) as url:
        yield url


def rows(settings: RunSettings) -> list[Any]:
    chosen: list[Any] = select(settings).chosen()["id"].to_pylist()
    return chosen


def test_a_run_in_batches_chooses_the_same_rows(
    server: BatchServer, url: str, make_run: MakeRun, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one_by_one = make_run(**FIELDS, store=str(tmp_path / "other"), reasons=True, ranking={"hosts": [url]})
    expected = select(one_by_one)
    asked = len(server.seen)
    settings = make_run(**FIELDS, reasons=True, ranking={"hosts": [url], "batch": True})
    result = select(settings)
    assert result.chosen().drop_columns(["reason"]) == expected.chosen().drop_columns(["reason"])
    ranking, counts = result.summary["ranking"], expected.summary["ranking"]
    assert {**ranking, "queued_seconds": 0} == {**counts, "queued_seconds": 0}
    questions = ranking["asked"] + result.summary["reasons"]["asked"] - 1  # one decided how the model is to think
    assert sum(server.sizes()) == questions
    assert server.sizes()[0] == 20, "all queries of the page are one batch"
    assert server.sizes()[-1] == 20, "all reasons are one batch"
    assert 3 <= len(server.sizes()) <= 6, "and so is each round of looks"
    assert set(server.paid.values()) == {1}
    steps = 3  # each asks one question by itself before its first batch
    assert len(server.seen) == asked + steps + 1
    assert "sent 20 questions to m as the batch batch_0" in caplog.text
    assert result.store.list("batches") and not result.store.list(result.store.list("batches")[0])
