"""Whole runs in batches: the same selection, the same replies, at half the price."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from selectllm import select
from selectllm.errors import CostExceeded, SelectorUnavailable
from selectllm.llm.context_guard import warn_once
from selectllm.plan import plan_run
from selectllm.report.format_plan import format_plan
from selectllm.settings import RunSettings
from tests.llm.batch_server import BatchServer, Line
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
    assert [name for folder in result.store.list("batches") for name in result.store.list(folder)] == []
    alone = select(settings.model_copy(update={"ranking": settings.ranking.without_batch()}))
    assert (alone.summary["ranking"]["asked"], len(server.seen)) == (0, asked + steps + 1)


def test_rounds_of_a_tournament_and_unusable_answers_are_batches_too(
    server: BatchServer, url: str, make_run: MakeRun
) -> None:
    def garbled(lines: list[Line]) -> list[Line]:
        for line in lines[:3]:
            line["response"]["body"]["choices"][0]["message"]["content"] = "I would rather not."
        return lines

    server.faults[0] = garbled
    ranking = {"hosts": [url], "batch": True, "gather": "tiers", "depth": 1}
    summary = select(make_run(**FIELDS | {"budget": 27}, ranking=ranking)).summary
    assert server.sizes() == [20, 3, 20, 3, 1], "a page, what could not be used of it, a page, and two rounds"
    assert summary["ranking"]["reasked"] == 3
    assert summary["ranking"]["abstained"] == 0
    again = server.files[server.batches["batch_1"]["input_file_id"]].decode()
    assert again.count("could not be used") == 3, "the fault is named"


def test_a_pointwise_run_is_one_batch(server: BatchServer, url: str, make_run: MakeRun) -> None:
    ranking = {"hosts": [url], "batch": True, "mode": "pointwise"}
    assert select(make_run(**FIELDS, ranking=ranking)).summary["ranking"]["asked"] == 140
    assert server.sizes() == [140]


def test_batches_cost_half(server: BatchServer, url: str, make_run: MakeRun) -> None:
    prices = {"price_in": 1.0, "price_out": 8.0}
    settings = make_run(**FIELDS, ranking={"hosts": [url], "batch": True, "think": "off", **prices})
    alone = settings.model_copy(update={"ranking": settings.ranking.without_batch()})
    plan, dear = plan_run(settings), plan_run(alone)
    assert plan["cost"] == pytest.approx(dear["cost"] / 2, abs=1e-4)
    assert (plan["batches"], dear["batches"]) == (4, None)
    assert "at most 4 one after the other, each within 24 hours" in format_plan(plan)
    assert "one after the other" not in format_plan(dear)
    cost = select(settings).summary["cost"]
    files = [server.files[batch["output_file_id"]] for batch in server.batches.values()]
    usages = [json.loads(line)["response"]["body"]["usage"] for file in files for line in file.splitlines()]
    tokens = sum(usage["prompt_tokens"] + 8 * usage["completion_tokens"] for usage in usages)
    assert cost["selection"] == pytest.approx(tokens / 2e6, abs=1e-6)
    assert cost["this_run"] == pytest.approx(tokens / 2e6, rel=0.05), "and a few tiny questions by themselves"


def test_the_most_cost_is_checked_before_a_batch_is_sent(server: BatchServer, url: str, make_run: MakeRun) -> None:
    ranking = {"hosts": [url], "batch": True, "think": "off", "price_in": 1.0, "max_cost": 1e-6}
    with pytest.raises(CostExceeded, match="the batch is not sent"):
        select(make_run(**FIELDS, ranking=ranking))
    assert server.sizes() == []


def test_a_server_without_batches_is_named_before_anything_is_asked(make_run: MakeRun) -> None:
    server = RankingServer()
    with serve(server.app) as url, pytest.raises(SelectorUnavailable, match=r"has no batches .*: do without --batch"):
        select(make_run(**FIELDS, ranking={"hosts": [url], "batch": True}))
    assert server.seen == []


@pytest.mark.parametrize("selector", ["ollama:m", "embedded", "scripted:longest"])
def test_other_selectors_take_no_batches(selector: str, make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="--batch needs a selector openai:MODEL"):
        make_run(selector=selector, ranking={"batch": True})
    with pytest.raises(ValueError, match="--batch needs one --host"):
        make_run(selector="openai:m", ranking={"batch": True, "hosts": ["http://a", "http://b"]})
