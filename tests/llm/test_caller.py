"""Requests of a caller are durable, counted, limited and can be cancelled. Ranking is tested elsewhere."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm import cancellation
from selectllm.errors import ContextLengthExceeded, CostExceeded, ModelChanged, ModelError, Stopped, TransientError
from selectllm.llm import backoff
from selectllm.llm import caller as caller_module
from selectllm.llm.caller import Caller, CostLimit, LongestRequest, open_caller
from selectllm.llm.context_guard import LOW_COUNT
from selectllm.llm.hosts import HostPool
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger import Ledger
from selectllm.llm.ledger_lines import Entry
from selectllm.llm.model import Reply, Request
from selectllm.llm.usage import Usage
from selectllm.settings import RankingSettings, RunSettings
from selectllm.store import Store
from tests.conftest import FakeModel, make_caller

MakeModel = Callable[..., FakeModel]
MakeRun = Callable[..., RunSettings]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.001)


def kept(folder: Path) -> list[dict[str, Any]]:
    """The lines of the ledger."""
    return [json.loads(line) for path in folder.rglob("*.jsonl") for line in path.read_bytes().splitlines()]


async def ask(caller: Caller, *texts: str) -> list[Entry]:
    return list(await asyncio.gather(*(caller.ask(Request(text, question=text)) for text in texts)))


class Slow(FakeModel):
    async def answer(self, request: Request) -> Reply:
        await asyncio.sleep(0.1)
        return await super().answer(request)


def test_a_question_is_asked_once_and_counted(tmp_path: Path) -> None:
    model = FakeModel(lambda request: request.text.upper())
    caller = make_caller(model, tmp_path)
    assert [entry.reply.text for entry in asyncio.run(ask(caller, "a", "b"))] == ["A", "B"]
    assert caller.usage == Usage(
        asked=2, paid_prompt_tokens=20, paid_output_tokens=4, replies=2, prompt_tokens=20, output_tokens=4
    )
    again = make_caller(model, tmp_path)
    assert [entry.reply.text for entry in asyncio.run(ask(again, "b", "a"))] == ["B", "A"]
    assert again.usage == Usage(replies=2, prompt_tokens=20, output_tokens=4)
    assert len(model.asked) == 2
    assert sorted(line["question"] for line in kept(tmp_path)) == ["a", "b"]


def test_equal_questions_at_once_are_asked_once(tmp_path: Path) -> None:
    model = Slow(lambda request: request.text.upper())
    caller = make_caller(model, tmp_path, concurrency=4)
    entries = asyncio.run(ask(caller, "a", "b", "a", "a"))
    assert [entry.reply.text for entry in entries] == ["A", "B", "A", "A"]
    assert sorted(request.text for request in model.asked) == ["a", "b"]
    assert (caller.usage.asked, caller.usage.replies, len(kept(tmp_path))) == (2, 4, 2)


def test_equal_questions_at_once_fail_together_and_can_be_asked_again(tmp_path: Path) -> None:
    errors = [ContextLengthExceeded("too long")]

    def answer(_: Request) -> Reply | str:
        if errors:
            raise errors.pop()
        return "yes"

    async def run() -> list[object]:
        caller = make_caller(FakeModel(answer), tmp_path)
        asked = [caller.ask(Request("a")) for _ in range(2)]
        failed = await asyncio.gather(*asked, return_exceptions=True)
        return [*map(str, failed), (await caller.ask(Request("a"))).reply.text]

    assert asyncio.run(run()) == ["too long", "too long", "yes"]


def test_a_prompt_that_was_cut_counts_as_too_long_once_no_try_is_left(tmp_path: Path) -> None:
    """Its halves may fit; without retries, one low count must do."""

    def answer(_: Request) -> Reply:
        raise TransientError("it was cut", LOW_COUNT)

    with pytest.raises(ContextLengthExceeded, match="it was cut"):
        asyncio.run(ask(make_caller(FakeModel(answer), tmp_path, retries=0), "a"))


def test_usage_adds_up(tmp_path: Path) -> None:
    errors = [TransientError("busy", "busy")]

    def answer(_: Request) -> Reply:
        if errors:
            raise errors.pop()
        return Reply("yes", "stop", 1, 1, 4 * 10**9, 10**9, 10**9, 10**9)

    callers = [make_caller(FakeModel(answer), tmp_path) for _ in range(2)]
    for number, caller in enumerate(callers):
        asyncio.run(ask(caller, f"question {number}"))
    total = Usage()
    for caller in callers:
        total += caller.usage
    assert (total.asked, total.replies, total.errors_by_kind) == (2, 2, {"busy": 1})
    assert total.queued_seconds == pytest.approx(2.0)


def test_a_run_at_its_cost_limit_sends_no_more_requests(tmp_path: Path) -> None:
    """Each reply has 10 tokens of prompt and 2 of answer."""
    limit = CostLimit(max_cost=1.0, price_in=0.01, price_out=0.05, paid_before=(10, 2))
    caller = make_caller(FakeModel(lambda _: "yes"), tmp_path, limit)

    async def many() -> None:
        for number in range(10):
            await caller.ask(Request(f"question {number}"))

    with pytest.raises(CostExceeded, match=r"has cost 1\.00, and --max-cost is 1\.00"):
        asyncio.run(many())
    assert caller.usage.asked == 4
    assert len(kept(tmp_path)) == 4


def test_replies_in_the_ledger_cost_nothing(tmp_path: Path) -> None:
    asyncio.run(ask(make_caller(FakeModel(lambda _: "yes"), tmp_path), "a"))
    nothing_left = CostLimit(max_cost=1.0, price_in=1.0, price_out=1.0, paid_before=(1, 0))
    caller = make_caller(FakeModel(lambda _: "yes"), tmp_path, nothing_left)
    assert asyncio.run(ask(caller, "a"))[0].reply.text == "yes"
    with pytest.raises(CostExceeded):
        asyncio.run(ask(caller, "b"))


def test_a_reply_is_stored_when_another_question_ends_the_run(tmp_path: Path) -> None:
    async def run() -> None:
        caller = make_caller(Slow(lambda _: "yes"), tmp_path)
        waiting = asyncio.create_task(ask(caller, "a"))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await caller.drain(5.0)
        with pytest.raises(Stopped):
            await ask(caller, "b")

    asyncio.run(run())
    assert [line["question"] for line in kept(tmp_path)] == ["a"]


def test_draining_ends_waiting_questions_within_its_time_limit(tmp_path: Path) -> None:
    async def run() -> float:
        caller = make_caller(Slow(lambda _: "yes"), tmp_path, concurrency=1)
        waiting = asyncio.create_task(ask(caller, *(f"question {number}" for number in range(100))))
        await asyncio.sleep(0.02)
        started = time.monotonic()
        await caller.drain(0.01)
        with pytest.raises((Stopped, asyncio.CancelledError)):
            await waiting
        return time.monotonic() - started

    assert asyncio.run(run()) < 2


def test_a_cancelled_run_sends_no_request(tmp_path: Path) -> None:
    model = FakeModel(lambda _: "yes")
    cancellation.cancel()
    with pytest.raises(Stopped, match="run the same again"):
        asyncio.run(ask(make_caller(model, tmp_path), "a"))
    assert not model.asked


def test_replies_before_a_failure_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def slow_sync(handle: int) -> None:
        time.sleep(0.1)
        sync(handle)

    monkeypatch.setattr("os.fsync", slow_sync)

    class Fails(FakeModel):
        async def answer(self, request: Request) -> Reply:
            await asyncio.sleep(0.01 * len(self.asked))
            if len(self.asked) == 7:
                await asyncio.sleep(0.05)
                raise ModelError("gone")
            return await super().answer(request)

    async def run() -> None:
        model = Fails(lambda _: "yes")
        ledger = Ledger(Store(str(tmp_path)), model.info)
        try:
            hosts = HostPool([model], RankingSettings(concurrency=1), model.info)
            await ask(Caller(hosts, ledger), *(f"question {number}" for number in range(10)))
        finally:
            await ledger.close()

    with pytest.raises(ModelError, match="gone"):
        asyncio.run(run())
    assert len(kept(tmp_path)) == 7


def test_no_question_is_asked_after_a_fatal_error(tmp_path: Path) -> None:
    """What waits for a host ends with the error itself; only what is under way is waited for."""

    class Gone(Slow):
        async def answer(self, request: Request) -> Reply:
            if request.text == "question 0":
                await asyncio.sleep(0.02)
                raise ModelError("gone")
            return await super().answer(request)

    model = Gone(lambda _: "yes")

    async def run() -> float:
        caller = make_caller(model, tmp_path, concurrency=4)
        questions = [asyncio.create_task(caller.ask(Request(f"question {number}"))) for number in range(40)]
        started = time.monotonic()
        await asyncio.wait(questions)
        await caller.drain(60.0)
        errors = {str(error) for question in questions if (error := question.exception())}
        assert errors == {"gone"}
        return time.monotonic() - started

    assert asyncio.run(run()) < 2
    assert len(kept(tmp_path)) == 3
    assert [request.text for request in model.asked] == ["question 1", "question 2", "question 3"]


def test_a_long_wait_for_replies_under_way_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caller_module, "GRACE_SECONDS", 0.01)

    async def run() -> None:
        caller = make_caller(Slow(lambda _: "yes"), tmp_path)
        waiting = asyncio.create_task(ask(caller, "a"))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await caller.drain(60.0, ModelError("gone"))

    asyncio.run(run())
    assert caplog.messages == ["the run ends: gone. It waits up to 60 s for 1 replies under way"]
    assert len(kept(tmp_path)) == 1


def test_a_run_at_its_cost_limit_ends_what_waits_for_a_host(tmp_path: Path) -> None:
    model = Slow(lambda _: "yes")

    async def run() -> None:
        caller = make_caller(model, tmp_path, CostLimit(max_cost=1.0, price_in=0.1), concurrency=1)
        questions = [asyncio.create_task(caller.ask(Request(f"question {number}"))) for number in range(40)]
        await asyncio.wait_for(asyncio.wait(questions), 2)
        assert {type(error) for question in questions if (error := question.exception())} == {CostExceeded}

    asyncio.run(run())
    assert len(model.asked) == len(kept(tmp_path)) == 1


def test_an_unexpected_store_error_does_not_leave_a_question_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "_append", lambda *_: (_ for _ in ()).throw(RuntimeError("no credentials")))

    async def run() -> None:
        await asyncio.wait_for(ask(make_caller(FakeModel(lambda _: "yes"), tmp_path), "a"), 5)

    with pytest.raises(RuntimeError, match="no credentials"):
        asyncio.run(run())


def open_fake(model: FakeModel, settings: RunSettings, *texts: str) -> Caller:
    async def run() -> Caller:
        arguments = Store(settings.store), settings, model.info, LongestRequest(100, 10), CostLimit(), ApiKeys()
        async with open_caller(*arguments) as caller:
            await ask(caller, *texts)
        return caller

    return asyncio.run(run())


def test_an_opened_caller_is_ready_and_is_closed_at_the_end(fake_model: MakeModel, make_run: MakeRun) -> None:
    settings = make_run()
    model = fake_model(lambda _: "yes")
    assert open_fake(model, settings, "a", "b").usage.asked == 2
    assert model.longest == 100
    assert model.is_closed
    assert open_fake(fake_model(lambda _: "no"), settings, "a").usage.asked == 0


def test_requests_in_flight_when_a_question_fails_are_stored(fake_model: MakeModel, make_run: MakeRun) -> None:
    settings = make_run(ranking={"concurrency": 2})
    model = fake_model(lambda _: "yes")

    async def answer(request: Request) -> Reply:
        if request.text == "bad":
            raise ModelError("gone")
        await asyncio.sleep(0.1)
        return Reply("yes", "stop")

    model.answer = answer  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="gone"):
        open_fake(model, settings, "slow", "bad")
    assert [line["question"] for line in kept(Path(settings.store))] == ["slow"]
    assert model.is_closed


class Changing(FakeModel):
    """A model that is another from its third answer on."""

    async def answer(self, request: Request) -> Reply:
        await asyncio.sleep(0.02)
        return await super().answer(request)

    async def verify(self) -> None:
        if len(self.asked) >= 3:
            raise ModelChanged("fake is another model by now")


def test_a_change_of_the_model_ends_a_run_soon(
    fake_model: MakeModel, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_module, "VERIFY_SECONDS", 0.01)
    settings = make_run(ranking={"concurrency": 1})
    model = fake_model(lambda _: "yes")
    changing = Changing(lambda _: "yes")
    monkeypatch.setattr(model, "answer", changing.answer)
    monkeypatch.setattr(model, "verify", changing.verify)
    with pytest.raises(ModelChanged, match=r"by now\. \d replies, those since .* are not used; all others are kept"):
        open_fake(model, settings, *(f"question {number}" for number in range(100)))
    assert 3 <= len(changing.asked) <= 6
    ledger = Ledger(Store(settings.store), model.info)
    counted = [ledger.get(Request(f"question {number}").key(model.info)) is not None for number in range(6)]
    assert counted[2:] == [False] * 4
    assert counted[0], "a look that found the old model has confirmed the first reply"


class ChangedOnce(Changing):
    """A model that is another at one look, and has its old weights at the next."""

    has_changed = False

    async def verify(self) -> None:
        if not self.has_changed and len(self.asked) >= 3:
            self.has_changed = True
            raise ModelChanged("fake is another model by now")


def test_a_model_that_was_another_for_a_while_has_its_replies_retracted(
    fake_model: MakeModel, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_module, "VERIFY_SECONDS", 0.01)
    settings = make_run(ranking={"concurrency": 1})
    model = fake_model(lambda _: "yes")
    changed = ChangedOnce(lambda _: "yes")
    monkeypatch.setattr(model, "answer", changed.answer)
    monkeypatch.setattr(model, "verify", changed.verify)
    with pytest.raises(ModelChanged, match=r"\d replies, those since .* are not used; all others are kept"):
        open_fake(model, settings, *(f"question {number}" for number in range(100)))
    ledger = Ledger(Store(settings.store), model.info)
    assert ledger.get(Request("question 2").key(model.info)) is None


def test_replies_of_a_host_that_did_not_answer_a_look_are_retracted_once_its_model_is_another(tmp_path: Path) -> None:
    class Silent(FakeModel):
        """A host that does not answer the first look at its model, and has another one at the second."""

        looks = 0

        async def verify(self) -> None:
            self.looks += 1
            if self.looks == 1:
                raise TransientError("gone", "connection")
            raise ModelChanged("fake is another model by now")

    silent, steady = Silent(lambda _: "silent"), Slow(lambda _: "steady")
    ledger = Ledger(Store(str(tmp_path)), steady.info)

    async def run() -> list[Entry]:
        hosts = HostPool([silent, steady], RankingSettings(concurrency=1), steady.info)
        await hosts.prepare(100, 10)
        caller = Caller(hosts, ledger)
        entries = await ask(caller, "a", "b")
        await caller.verify()
        with pytest.raises(ModelChanged) as error:
            await caller.verify()
        assert "1 replies, those since" in str(await caller.retract(error.value))
        return entries

    entries = {entry.reply.text: entry for entry in asyncio.run(run())}
    assert ledger.get(entries["silent"].key) is None
    assert ledger.get(entries["steady"].key) is not None
