"""Complete runs against a real HTTP server that speaks Ollama's protocol and has every kind of fault."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm import plan_run, select
from selectllm.errors import ModelChanged, ModelError, SelectorUnavailable, TooManyAbstained
from selectllm.llm import backoff, hosts
from selectllm.ranking.lists import ATTEMPTS
from selectllm.report.format_plan import format_plan
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.testing.faulty_ollama import FaultyOllama
from selectllm.testing.ollama_answers import question_of

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")

KIND_OF_FAULT = {
    "busy": "busy", "runner died": "runner died", "runner killed": "runner died", "reset": "connection",
    "hang": "timeout", "cut": "cut off", "unfinished": "unfinished", "low count": "low count", "empty": "empty",
    "prose": "unreadable", "wrong ids": "wrong ids", "repeated ids": "repeated ids",
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(hosts, "PROBE_SECONDS", 0.05)


def ranked(result: Result) -> list[tuple[str, ...]]:
    """The instructions that each query ranked, best first."""
    pool = result.table("pool")
    texts = dict(zip(pool["id"].to_pylist(), pool["instruction"].to_pylist(), strict=True))
    rankings: dict[int, list[str]] = {}
    for row in result.table("rankings").sort_by([("query_id", "ascending"), ("rank", "ascending")]).to_pylist():
        rankings.setdefault(row["query_id"], []).append(texts[row["id"]])
    return [tuple(ranking) for ranking in rankings.values()]


def against(server: FaultyOllama, make_run: MakeRun, **fields: Any) -> RunSettings:
    ranking = {"hosts": [server.host], "concurrency": 16, "timeout": 1.0, **fields.pop("ranking", {})}
    return make_run(selector=f"ollama:{server.model}", ranking=ranking, **fields)


def after(server: FaultyOllama, answers: int, act: Callable[[], object]) -> threading.Thread:
    """Call a function when a server has given a number of answers."""

    def wait() -> None:
        while len(server.answered) < answers:
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_run_survives_and_counts_every_fault(make_run: MakeRun) -> None:
    with FaultyOllama(dict.fromkeys(KIND_OF_FAULT, 0.05), parallel=16) as server:
        settings = against(
            server, make_run, rows=1400, budget=130, ranking={"timeout": 1.5}
        )  # so that no answer is slow by chance
        result = select(settings)
        server.wait_idle()
        asked = server.requests["/api/chat"]
        assert set(server.injected) == set(KIND_OF_FAULT), "every kind of fault occurred"
        errors = result.summary["ranking"]["errors_by_kind"]
        assert errors == Counter(KIND_OF_FAULT[kind] for kind in server.injected.elements())
        assert len(result.table()) == 130
        assert result.summary["ranking"]["abstained"] == 0
        valid = {ranking for _, ranking in server.answered}
        assert len(ranked(result)) == 100
        assert all(ranking in valid for ranking in ranked(result)), "every ranked row is named by a valid reply"
        again = select(settings)
        assert again.summary["ranking"]["asked"] == 0
        assert server.requests["/api/chat"] == asked
        assert again.table().equals(result.table())

    with FaultyOllama(parallel=16) as calm:
        undisturbed = select(against(calm, make_run, rows=1400, budget=130, store=settings.store + "-calm"))
        assert len(calm.loads) == 1, "the whole run, with its tournament, uses one context"
    assert undisturbed.table().equals(result.table()), "faults change the cost of a run but not its selection"


def test_a_run_survives_a_killed_runner(make_run: MakeRun) -> None:
    with FaultyOllama({"runner killed": 0.5}) as server:
        result = select(against(server, make_run, rows=140, budget=10))
        assert server.injected["runner killed"] >= 3
        errors = result.summary["ranking"]["errors_by_kind"]
        assert errors == {"runner died": server.injected["runner killed"]}
    assert result.summary["ranking"]["abstained"] == 0


def test_two_hosts_share_the_load_and_a_dead_host_is_excluded(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.01) as first, FaultyOllama(delay=0.01) as second:
        settings = against(
            first, make_run, rows=1400, budget=20, ranking={"hosts": [first.host, second.host], "concurrency": 4}
        )
        after(second, 10, second.pause)
        result = select(settings)
        assert len(result.table()) == 20
        assert result.summary["ranking"]["abstained"] == 0
        assert min(first.requests["/api/chat"], second.requests["/api/chat"]) > 5


def test_a_run_waits_for_a_server_that_is_temporarily_down(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.02, parallel=4) as server:
        settings = against(server, make_run, rows=1400, budget=20, ranking={"concurrency": 4})

        def go_away_for_a_second() -> None:
            server.pause()
            time.sleep(1)
            server.resume()

        after(server, 10, go_away_for_a_second)
        result = select(settings)
        assert len(result.table()) == 20
        assert result.summary["ranking"]["errors_by_kind"]["connection"] >= 4
        assert result.summary["ranking"]["abstained"] == 0


def test_a_run_fails_when_the_server_stays_down_and_the_next_run_continues(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.02, parallel=4) as server:
        settings = against(server, make_run, rows=1400, budget=20, ranking={"concurrency": 4, "give_up_after": 0.3})
        after(server, 10, server.pause)
        with pytest.raises(ModelError, match="no host of m:latest has answered"):
            select(settings)
        kept = sum(len(path.read_bytes().splitlines()) for path in Path(settings.store).rglob("*.jsonl"))
        assert kept > 3
        server.resume()
        resumed = select(settings)
        assert resumed.summary["ranking"]["from_ledger"] == kept
        assert len(resumed.table()) == 20


def test_replies_of_a_model_that_changed_during_a_run_are_not_used(make_run: MakeRun) -> None:
    with FaultyOllama() as server:
        before = server.digest
        settings = against(server, make_run, rows=280, budget=10)

        def create() -> None:
            server.digest = "c4a9ed" * 10 + "abcd"

        after(server, 5, create)
        words = r"^m:latest is another model by now at .* 20 replies, those since .*, are not used; .* Run again"
        with pytest.raises(ModelChanged, match=words):
            select(settings)
        assert len(server.answered) == 20
        server.digest = before
        again = select(settings)
        assert (again.summary["ranking"]["from_ledger"], again.summary["ranking"]["abstained"]) == (0, 0)


def test_a_run_fails_at_once_when_the_server_is_down_at_the_start(make_run: MakeRun) -> None:
    with FaultyOllama() as server:
        gone = against(server, make_run)
    started = time.monotonic()
    with pytest.raises(SelectorUnavailable, match="no Ollama server answers"):
        select(gone)
    assert time.monotonic() - started < 5


def test_a_model_that_answers_only_prose_stops_the_run_early(make_run: MakeRun) -> None:
    with FaultyOllama({"prose": 1.0}, most_in_a_row=100) as server:
        settings = against(server, make_run, rows=1400, budget=20, ranking={"concurrency": 2})
        with pytest.raises(TooManyAbstained, match="unreadable"):
            select(settings)
        assert server.requests["/api/chat"] < 60, "it stops at the sixth of 100 queries"


def test_a_mended_server_is_asked_again_by_the_same_command(make_run: MakeRun) -> None:
    """The model and its digest are the same, so the replies of before are still in the ledger."""
    with FaultyOllama({"prose": 1.0}, most_in_a_row=100) as broken:
        with pytest.raises(TooManyAbstained, match="run again: each of these is then asked about once more"):
            select(against(broken, make_run, rows=280, budget=20))
        with pytest.raises(TooManyAbstained):
            select(against(broken, make_run, rows=280, budget=20))
        asked = Counter(question_of(body["messages"][0]["content"]) for body in broken.asked)
        assert max(asked.values()) == ATTEMPTS + 1, "the second run asks about each query at most once more"
    with FaultyOllama() as mended:
        summary = select(against(mended, make_run, rows=280, budget=20)).summary["ranking"]
    assert (summary["abstained"], summary["ranked"]) == (0, 24), "20 queries, and 4 further looks"
    assert summary["reasked_old"] > 0
    with FaultyOllama() as calm:
        again = select(against(calm, make_run, rows=280, budget=20, ranking={"reask": True})).summary["ranking"]
        assert again["asked"] == 0, "there is nothing left to ask again"


def test_reask_asks_about_abstained_queries_of_a_run_that_succeeded(make_run: MakeRun) -> None:
    may_abstain = {"max_abstained": 1.0}
    fields = {"rows": 280, "budget": 5}
    with FaultyOllama({"prose": 0.8}, most_in_a_row=1000) as server:
        first = select(against(server, make_run, **fields, ranking=may_abstain))
        assert first.summary["ranking"]["abstained"] > 0
    with FaultyOllama() as mended:
        kept = select(against(mended, make_run, **fields, ranking=may_abstain))
        assert kept.summary["ranking"]["asked"] == 0
        mending = select(against(mended, make_run, **fields, ranking=may_abstain | {"reask": True}))
    assert mending.summary["ranking"]["abstained"] == 0
    assert mending.summary["ranking"]["reasked_old"] > 0


def test_concurrency_is_reduced_for_a_slow_server(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.2, parallel=1) as server:
        settings = against(
            server, make_run, rows=112, budget=8, ranking={"concurrency": 8, "timeout": 0.7, "retries": 20}
        )
        result = select(settings)
    assert len(result.table()) == 8
    assert result.summary["ranking"]["errors_by_kind"]["timeout"] >= 1
    assert result.summary["ranking"]["queued_seconds"] > 0


def test_questions_that_take_longer_than_the_timeout_are_answered(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.3) as server:
        settings = against(server, make_run, rows=42, budget=3, ranking={"concurrency": 4, "timeout": 0.12})
        result = select(settings)
    assert len(result.table()) == 3
    assert result.summary["ranking"]["abstained"] == 0
    assert set(result.summary["ranking"]["errors_by_kind"]) == {"timeout"}


def test_loading_may_take_longer_than_the_timeout(make_run: MakeRun) -> None:
    with FaultyOllama(loading=0.6) as server:
        result = select(against(server, make_run, rows=56, budget=3, ranking={"timeout": 0.2}))
    assert result.summary["ranking"]["errors_by_kind"] == {}


def test_queries_that_do_not_fit_the_model_are_halved(make_run: MakeRun) -> None:
    with FaultyOllama(context_length=850) as server:
        result = select(against(server, make_run, rows=140, budget=10))
    assert len(result.table()) == 10
    assert result.summary["ranking"]["split"] >= 1
    assert result.summary["ranking"]["abstained"] == 0


@pytest.mark.parametrize(("gather", "reason"), [("tiers", "tournament"), ("ratings", "rating")])
def test_later_queries_that_do_not_fit_the_model_are_split(gather: str, reason: str, make_run: MakeRun) -> None:
    with FaultyOllama(context_length=850) as server:
        result = select(against(server, make_run, rows=140, budget=5, ranking={"gather": gather}))
    assert len(result.table()) == 5
    assert set(result.table()["picked_by"].to_pylist()) == {reason}
    assert result.summary["ranking"]["abstained"] == 0


@pytest.mark.parametrize("think", ["low", "on"])
def test_the_context_leaves_room_for_thinking(think: str, make_run: MakeRun) -> None:
    with FaultyOllama() as server:
        result = select(against(server, make_run, rows=60, budget=5, ranking={"think": think}))
        assert len(server.loads) == 1
    assert result.summary["ranking"]["errors_by_kind"] == {}
    assert result.summary["ranking"]["split"] == 0


def test_a_model_with_another_name_reuses_its_replies(make_run: MakeRun) -> None:
    with FaultyOllama() as server:
        first = select(against(server, make_run))
        again = select(make_run(selector="ollama:m", ranking={"hosts": [server.host]}))
    assert first.summary["ranking"]["asked"]
    assert again.summary["ranking"]["asked"] == 0
    assert set(again.summary["cached"]) >= {"rankings", "selection"}


def test_every_host_gets_requests_up_to_its_limit(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.4, parallel=32) as first, FaultyOllama(delay=0.4, parallel=32) as second:
        both = {"hosts": [first.host, second.host], "concurrency": 32}
        select(against(first, make_run, rows=2800, budget=200, ranking=both))
    assert min(first.most_at_once, second.most_at_once) == 32


def test_candidates_are_scored_pointwise_over_http(make_run: MakeRun) -> None:
    with FaultyOllama({"busy": 0.1, "cut": 0.1}) as server:
        settings = against(server, make_run, rows=60, budget=7, ranking={"mode": "pointwise"})
        result = select(settings)
        assert server.requests["/api/generate"] >= 60
        assert server.requests["/api/chat"] <= 2, "the only chat request loads the model"
    assert len(result.table()) == 7
    assert result.summary["model"]["mode"] == "pointwise"
    assert result.summary["ranking"]["ranked"] == 60
    best = {row["id"] for row in result.table("rankings").to_pylist() if row["rank"] == 1}
    assert best <= set(result.table()["id"].to_pylist())


def test_the_plan_counts_passes_like_the_run(make_run: MakeRun) -> None:
    with FaultyOllama() as server:
        settings = against(server, make_run, rows=140, budget=13, ranking={"passes": 3})
        summary = select(settings).summary["ranking"]
    assert plan_run(settings)["ranking"]["calls"] == summary["asked"]
    assert summary["agreement"] == 1.0, "the answers of this server do not depend on the order"
    assert set(summary["agreement_by_question"].values()) == {1.0}
    assert {f"query {number}" for number in range(10)} < set(summary["agreement_by_question"])


def test_the_plan_and_the_next_run_warn_of_a_model_that_is_too_slow(
    make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultyOllama(delay=0.05) as server:
        settings = against(server, make_run, rows=60, budget=5)
        before = plan_run(settings)["ranking"]["longest"]
        assert before["prompt_tokens"] > 300
        assert (before["seconds"], before["warning"]) == (None, "")
        select(settings)
        slow = settings.model_copy(update={"seed": 1, "ranking": settings.ranking.model_copy(update={"timeout": 0.01})})
        longest = plan_run(slow)["ranking"]["longest"]
        assert 0.02 < longest["seconds"] < 1
        assert longest["warning"] == "it will not be answered within --timeout 0.01 at the first try: set --timeout 60"
        assert f"NOTE: {longest['warning']}" in format_plan(plan_run(slow))
        caplog.clear()
        select(slow)
    assert caplog.messages[0].startswith("the longest question takes about 0 s, by earlier replies: it will not be")
