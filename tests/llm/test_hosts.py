"""Hosts that fail, are slow, disappear and return."""

import asyncio
import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from selectllm import cancellation
from selectllm.errors import ContextLengthExceeded, ModelChanged, ModelError, ModelUnavailable, Stopped, TransientError
from selectllm.llm import backoff, hosts, outage
from selectllm.llm.context_guard import warn_once
from selectllm.llm.host_state import Connect, Deadline
from selectllm.llm.hosts import HostPool
from selectllm.llm.model import ChatModel, Reply, Request
from selectllm.settings import RankingSettings
from tests.conftest import FakeModel

REQUEST = Request("question")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(hosts, "PROBE_SECONDS", 0.02)


def pool(*models: ChatModel, absent: Sequence[Connect] = (), **options: Any) -> HostPool:
    settings = RankingSettings(**{"concurrency": 1, **options})
    return HostPool(
        models, settings, FakeModel(lambda _: "").info, dict.fromkeys(absent, ModelError("no server answers"))
    )


async def answer(hosts: HostPool, check: Callable[[], None] = lambda: None, deadline: Deadline | None = None) -> Reply:
    async with hosts.answer(REQUEST, check, deadline) as (reply, _):
        return reply


class Host(FakeModel):
    """A host that fails with these errors, in turn, and then answers; probes fail while it is `down`."""

    def __init__(self, *failures: Exception, takes: float = 0.0, down: bool = False) -> None:
        super().__init__(lambda _: "yes")
        self.failures, self.takes, self.down, self.probes = list(failures), takes, down, 0

    async def answer(self, request: Request) -> Reply:
        await asyncio.sleep(self.takes)
        if self.down:
            raise TransientError("gone", "connection")
        if self.failures:
            self.asked.append(request)
            raise self.failures.pop(0)
        return await super().answer(request)

    async def probe(self) -> None:
        self.probes += 1
        if self.down:
            raise TransientError("gone", "connection")


def busy() -> TransientError:
    return TransientError("busy", "busy")


def refusal(retry_after: float | None) -> TransientError:
    return TransientError("slow down", "rate limit", retry_after)


def reset() -> TransientError:
    return TransientError("reset", "connection")


@pytest.mark.asyncio
async def test_transient_errors_are_retried_and_counted() -> None:
    host = Host(busy(), reset(), busy())
    host_pool = pool(host, concurrency=1)
    assert (await answer(host_pool)).text == "yes"
    assert host_pool.usage.errors_by_kind == {"busy": 2, "connection": 1}


@pytest.mark.asyncio
async def test_the_number_of_retries_is_limited() -> None:
    host = Host(*[busy() for _ in range(9)])
    with pytest.raises(TransientError):
        await answer(pool(host, concurrency=1, retries=2))
    assert len(host.asked) == 3


@pytest.mark.parametrize("error", [ModelError("refused"), ContextLengthExceeded("too long")])
@pytest.mark.asyncio
async def test_permanent_errors_are_raised_at_once(error: ModelError) -> None:
    host = Host(error)
    host_pool = pool(host, concurrency=1)
    with pytest.raises(type(error)):
        await answer(host_pool)
    assert len(host.asked) == 1
    assert not host_pool.usage.errors_by_kind
    assert (await answer(host_pool)).text == "yes", "the place of the request is free again"


@pytest.mark.asyncio
async def test_a_hanging_request_ends_after_the_timeout() -> None:
    host_pool = pool(Host(takes=30), concurrency=1, timeout=0.02, retries=1)
    started = time.monotonic()
    with pytest.raises(TransientError, match="did not answer within"):
        await answer(host_pool)
    assert host_pool.usage.errors_by_kind == {"timeout": 2}
    assert time.monotonic() - started < 5


@pytest.mark.asyncio
async def test_an_out_of_memory_error_is_retried_once() -> None:
    host = Host(*[TransientError("full", "out of memory") for _ in range(9)])
    with pytest.raises(TransientError):
        await answer(pool(host, concurrency=1, retries=4))
    assert len(host.asked) == 2


@pytest.mark.asyncio
async def test_one_deadline_covers_all_retries() -> None:
    host_pool = pool(Host(takes=30), concurrency=1, timeout=0.05, deadline=0.12, retries=100)
    with pytest.raises(TransientError):
        await answer(host_pool)
    assert host_pool.usage.errors_by_kind == {"timeout": 1, "deadline": 1}


@pytest.mark.asyncio
async def test_the_limit_halves_when_a_host_is_slow_and_recovers_slowly() -> None:
    host = Host(busy(), busy(), busy())
    host_pool = pool(host, concurrency=16)
    await answer(host_pool)
    host_state = host_pool._hosts[0]
    assert host_pool.lowest_limit == 2
    assert host_state.limit < 4
    for _ in range(400):
        await answer(host_pool)
    assert host_state.limit == 16


@pytest.mark.asyncio
async def test_simultaneous_failures_halve_the_limit_once() -> None:
    host_pool = pool(Host(*[busy() for _ in range(4)], takes=0.01), concurrency=4)
    await asyncio.gather(*(answer(host_pool) for _ in range(4)))
    assert host_pool.lowest_limit == 2


@pytest.mark.asyncio
async def test_other_failures_do_not_reduce_the_limit() -> None:
    host_pool = pool(Host(reset(), reset()), concurrency=8)
    await answer(host_pool)
    assert host_pool.lowest_limit == 8


@pytest.mark.asyncio
async def test_a_dead_host_is_excluded_and_readmitted() -> None:
    dead, alive = Host(down=True), Host(takes=0.001)
    host_pool = pool(dead, alive, concurrency=2, retries=20)
    await asyncio.gather(*(answer(host_pool) for _ in range(40)))
    assert host_pool._hosts[0].down_since is not None
    assert len(alive.asked) == 40
    dead.down = False
    await asyncio.sleep(0.1)
    assert host_pool._hosts[0].down_since is None
    await asyncio.gather(*(answer(host_pool) for _ in range(40)))
    assert len(dead.asked) > 5
    await host_pool.close()


@pytest.mark.asyncio
async def test_hosts_share_the_load() -> None:
    both = [Host(takes=0.002), Host(takes=0.002)]
    host_pool = pool(*both, concurrency=3)
    await asyncio.gather(*(answer(host_pool) for _ in range(60)))
    assert min(len(host.asked) for host in both) >= 20


@pytest.mark.asyncio
async def test_waiting_questions_are_served_in_the_order_that_they_came() -> None:
    host = Host(takes=0.001)
    host_pool = pool(host, concurrency=1)

    async def ask(number: int) -> None:
        async with host_pool.answer(Request(str(number))):
            pass

    await asyncio.gather(*map(ask, range(12)))
    assert [int(request.text) for request in host.asked] == list(range(12))


@pytest.mark.asyncio
async def test_questions_wait_and_deadlines_pause_while_all_hosts_are_down() -> None:
    host = Host(down=True)
    host_pool = pool(host, concurrency=8, deadline=0.2, retries=4)
    waiting = asyncio.gather(*(answer(host_pool) for _ in range(20)))
    await asyncio.sleep(0.4)
    assert host.probes >= 2
    host.down = False
    assert len(await waiting) == 20
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_long_outage_fails_the_run_and_keeps_all_replies() -> None:
    host_pool = pool(Host(down=True), concurrency=8, give_up_after=0.1)
    with pytest.raises(ModelUnavailable, match=r"no host of fake has answered for .* Replies received so far are kept"):
        await asyncio.gather(*(answer(host_pool) for _ in range(20)))
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_host_that_passes_probes_but_never_answers_does_not_block_a_question() -> None:
    host = Host(*[reset() for _ in range(1000)])
    host_pool = pool(host, concurrency=4, retries=6)
    with pytest.raises(TransientError):
        await asyncio.wait_for(answer(host_pool), 5)
    assert len(host.asked) == 8, "seven tries, and one more after an outage"
    await host_pool.close()


@pytest.mark.asyncio
async def test_time_in_the_queue_of_a_host_is_summed() -> None:
    second = 10**9
    host = FakeModel(lambda _: Reply("x", "stop", 1, 1, 5 * second, second, second, second))
    host_pool = pool(host, concurrency=1)
    await answer(host_pool)
    assert host_pool.usage.queued_seconds == pytest.approx(2.0)


class Unready(Host):
    """A host whose preparation fails with these errors, in turn."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def prepare(self, longest: int, max_tokens: int) -> None:
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.asyncio
async def test_a_model_that_no_host_can_prepare_is_one_error() -> None:
    with pytest.raises(ModelError, match="no such file"):
        await pool(Unready(ModelError("no such file")), concurrency=1).prepare(100, 500)


@pytest.mark.asyncio
async def test_a_host_that_cannot_be_prepared_is_excluded_if_another_can() -> None:
    unready, ready = Unready(*[ModelError("no such file")] * 1000), Host()
    host_pool = pool(unready, ready, concurrency=1)
    await host_pool.prepare(100, 500)
    await asyncio.gather(*(answer(host_pool) for _ in range(4)))
    assert (len(unready.asked), len(ready.asked)) == (0, 4)
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_hanging_host_does_not_delay_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Host):
        async def prepare(self, longest: int, max_tokens: int) -> None:
            await asyncio.sleep(60)

    monkeypatch.setattr(hosts, "READY_GRACE_SECONDS", 0.05)
    host_pool = pool(Hanging(), Host(), concurrency=1)
    await asyncio.wait_for(host_pool.prepare(100, 500), 5)
    assert (await answer(host_pool)).text == "yes"
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_busy_host_is_an_immediate_error_without_waiting() -> None:
    host_pool = pool(Unready(*[busy()] * 9), concurrency=1, retries=0)
    with pytest.raises(TransientError, match="could not be made ready: busy"):
        await host_pool.prepare(100, 500, wait=False)


@pytest.mark.asyncio
async def test_a_question_past_its_deadline_does_not_mark_the_host_as_failed() -> None:
    host_pool = pool(Host(takes=30), concurrency=8, timeout=60, deadline=0.05)
    for _ in range(6):
        with pytest.raises(TransientError):
            await answer(host_pool)
        with pytest.raises(TransientError, match="for a question, and took them"):
            await answer(host_pool, deadline=Deadline(0.0))
    assert host_pool.usage.errors_by_kind == {"deadline": 6}
    assert host_pool.lowest_limit == 8
    assert host_pool._hosts[0].down_since is None


@pytest.mark.asyncio
async def test_preparation_waits_for_a_busy_host() -> None:
    host_pool = pool(Unready(*[busy() for _ in range(7)]), concurrency=1, retries=2)
    await host_pool.prepare(100, 500)
    assert (await asyncio.wait_for(answer(host_pool), 5)).text == "yes"
    assert host_pool.usage.errors_by_kind == {"busy": 7}
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_host_that_is_never_ready_fails_with_its_last_error() -> None:
    host_pool = pool(Unready(*[busy()] * 1000), concurrency=1, retries=0, give_up_after=0.1)
    await host_pool.prepare(100, 500)
    with pytest.raises(ModelError, match="The last error: http://fake: fake could not be made ready: busy"):
        await asyncio.wait_for(answer(host_pool), 5)
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_host_that_cannot_load_the_model_is_told_to_less_and_less_often() -> None:
    unready = Unready(*[ModelError("no such file")] * 1000)
    host_pool = pool(unready, Host())
    await host_pool.prepare(100, 500)
    await asyncio.sleep(0.5)
    loads = 1000 - len(unready.errors)
    assert loads <= 5, "each of 25 probes had it load the model"
    unready.errors.clear()
    await asyncio.sleep(0.8)
    assert host_pool._hosts[0].is_free
    assert host_pool._hosts[0].vain_probes == 0
    await host_pool.close()


@pytest.mark.asyncio
async def test_probing_continues_after_an_unknown_probe_error() -> None:
    class Odd(Host):
        async def probe(self) -> None:
            self.probes += 1
            if self.probes < 3:
                raise KeyError("version")
            self.down = False

    host = Odd(down=True)
    host_pool = pool(host, concurrency=2, retries=0)
    host_pool._take_out(host_pool._hosts[0])
    assert (await asyncio.wait_for(answer(host_pool), 5)).text == "yes"
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_single_question_waits_through_an_outage_without_using_retries() -> None:
    host = Host(down=True)
    host_pool = pool(host, concurrency=1, retries=4)
    waiting = asyncio.create_task(answer(host_pool))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    host.down = False
    assert (await asyncio.wait_for(waiting, 5)).text == "yes"
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_run_can_be_cancelled_while_all_hosts_are_down() -> None:
    host_pool = pool(Host(down=True), concurrency=1)
    host_pool._take_out(host_pool._hosts[0])
    waiting = asyncio.create_task(answer(host_pool, cancellation.raise_if_cancelled))
    await asyncio.sleep(0.05)
    cancellation.cancel()
    with pytest.raises(Stopped):
        await asyncio.wait_for(waiting, 5)
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_host_that_returns_with_another_version_is_prepared_again() -> None:
    opened: list[Host] = []

    async def connect() -> Host:
        host = Host()
        host.info = dataclasses.replace(host.info, digest="old" if not opened else host.info.digest)
        opened.append(host)
        return host

    host_pool = pool(absent=[connect])
    await host_pool.prepare(100, 500)
    assert (await asyncio.wait_for(answer(host_pool), 5)).text == "yes"
    assert len(opened) == 2
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_host_with_another_model_is_reached_less_and_less_often_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_once.cache_clear()
    reached: list[Host] = []

    async def connect() -> Host:
        reached.append(Host())
        reached[-1].info = dataclasses.replace(reached[-1].info, digest="another")
        return reached[-1]

    host_pool = pool(Host(), absent=[connect])
    await host_pool.prepare(100, 500)
    await asyncio.sleep(0.5)
    assert 2 <= len(reached) <= 5, "each of 25 probes reached it"
    named = [text for text in caplog.messages if "is another version there, or is asked in another way" in text]
    assert len(named) == 1
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_requested_pause_of_a_host_is_respected() -> None:
    host = Host(refusal(0.2))
    host_pool = pool(host, concurrency=4, deadline=0.1, retries=0)
    started = time.monotonic()
    replies = await asyncio.wait_for(asyncio.gather(*(answer(host_pool) for _ in range(3))), 5)
    assert [reply.text for reply in replies] == ["yes"] * 3
    assert time.monotonic() - started >= 0.2, "the wait costs neither a try nor time of the deadline"
    assert host.probes == 0
    await host_pool.close()


@pytest.mark.parametrize("failures", [[refusal(60.0)], [refusal(0.01) for _ in range(1000)]])
@pytest.mark.asyncio
async def test_a_host_that_refuses_questions_for_too_long_ends_the_run(failures: list[Exception]) -> None:
    host_pool = pool(Host(*failures), give_up_after=0.2)
    words = r"no host of fake takes questions within 0.2 s .*are kept: run again .* http://fake: slow down"
    with pytest.raises(ModelError, match=words) as error:
        await asyncio.wait_for(answer(host_pool), 5)
    assert not isinstance(error.value, TransientError)
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_host_that_is_out_is_not_probed_before_the_time_that_it_named() -> None:
    class Named(Host):
        async def probe(self) -> None:
            self.probes += 1
            raise refusal(60.0)

    host = Named(down=True)
    host_pool = pool(host)
    host_pool._take_out(host_pool._hosts[0])
    await asyncio.sleep(0.15)
    assert host.probes == 1
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_host_that_returns_with_another_model_ends_the_asking() -> None:
    class Changed(Host):
        async def probe(self) -> None:
            raise ModelChanged("fake is another model by now")

    host_pool = pool(Changed(down=True))
    await host_pool.prepare(100, 500)
    host_pool._take_out(host_pool._hosts[0])
    with pytest.raises(ModelChanged):
        await asyncio.wait_for(answer(host_pool), 5)
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_run_can_be_cancelled_while_a_host_rests() -> None:
    host_pool = pool(Host(refusal(60.0)))
    waiting = asyncio.create_task(answer(host_pool, cancellation.raise_if_cancelled))
    await asyncio.sleep(0.05)
    cancellation.cancel()
    with pytest.raises(Stopped):
        await asyncio.wait_for(waiting, 5)
    await host_pool.close()


@pytest.mark.asyncio
async def test_another_host_answers_while_one_refuses_questions() -> None:
    resting, alive = Host(refusal(3600.0)), Host()
    host_pool = pool(resting, alive, concurrency=2, retries=0)
    await asyncio.wait_for(asyncio.gather(*(answer(host_pool) for _ in range(9))), 5)
    assert len(resting.asked) <= 2, "what was under way when it refused, and nothing after that"
    await host_pool.close()


class Poisoned(Host):
    """A host that refuses one question whenever it sees it, and answers all others."""

    async def answer(self, request: Request) -> Reply:
        if request.text == "poison":
            self.asked.append(request)
            raise refusal(None)
        return await super().answer(request)


async def ask_beside_poison(host_pool: HostPool, others: int) -> tuple[list[str], object]:
    """The answers to some questions, eight at a time, and what became of one that came before them all."""

    async def ask(text: str) -> str:
        async with host_pool.answer(Request(text)) as (reply, _):
            return reply.text

    poison = asyncio.create_task(ask("poison"))
    places = asyncio.Semaphore(8)

    async def ask_other(number: int) -> str:
        async with places:
            return await ask(str(number))

    answers = await asyncio.gather(*map(ask_other, range(others)))
    (outcome,) = await asyncio.gather(poison, return_exceptions=True)
    await host_pool.close()
    return answers, outcome


@pytest.mark.asyncio
async def test_a_question_that_is_refused_while_others_are_answered_is_given_up() -> None:
    host = Poisoned(takes=0.001)
    answers, outcome = await asyncio.wait_for(ask_beside_poison(pool(host, retries=0), 120), 20)
    assert answers == ["yes"] * 120
    assert isinstance(outcome, TransientError)
    assert outcome.kind == "rate limit"
    assert 11 <= len([request for request in host.asked if request.text == "poison"]) <= 13


@pytest.mark.asyncio
async def test_a_question_that_alone_is_left_and_refused_is_given_up() -> None:
    answers, outcome = await asyncio.wait_for(ask_beside_poison(pool(Poisoned(), give_up_after=0.2), 12), 20)
    assert answers == ["yes"] * 12
    assert isinstance(outcome, TransientError)


class Limited(Host):
    """A host that takes some questions in each window of time, counted from the first; `names` says when it is over."""

    def __init__(self, questions: int, seconds: float, *, names: bool) -> None:
        super().__init__()
        self.questions, self.seconds, self.names = questions, seconds, names
        self.window, self.taken, self.refused = 0.0, 0, 0

    async def answer(self, request: Request) -> Reply:
        now = time.monotonic()
        if now >= self.window + self.seconds:
            self.window, self.taken = now, 0
        self.taken += 1
        if self.taken > self.questions:
            self.refused += 1
            raise refusal(self.window + self.seconds - now if self.names else None)
        return await super().answer(request)


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.asyncio
async def test_a_pace_is_learned_from_refusals(names: bool) -> None:
    host = Limited(10, 0.1, names=names)
    host_pool = pool(host, concurrency=4, retries=0)
    await asyncio.wait_for(asyncio.gather(*(answer(host_pool) for _ in range(60))), 20)
    assert len(host.asked) == 60
    assert host.refused <= 20, "117 questions were refused when each was tried again by itself"
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_question_that_failed_goes_to_another_host() -> None:
    failing, alive = Host(*[reset() for _ in range(9)]), Host()
    host_pool = pool(failing, alive, concurrency=4, retries=1)
    await asyncio.gather(*(answer(host_pool) for _ in range(4)))
    assert len(alive.asked) == 4


@pytest.mark.asyncio
async def test_a_timeout_leaves_one_question_under_way_and_doubles_its_time(caplog: pytest.LogCaptureFixture) -> None:
    """The more questions are under way, the longer the next takes: the fifth too long."""

    class Shared(Host):
        under_way = 0

        async def answer(self, request: Request) -> Reply:
            self.under_way += 1
            try:
                await asyncio.sleep(0.02 * self.under_way)
                return await super().answer(request)
            finally:
                self.under_way -= 1

    host_pool = pool(Shared(), concurrency=8, timeout=0.09, deadline=5.0, retries=1)
    await asyncio.wait_for(asyncio.gather(*(answer(host_pool) for _ in range(8))), 5)
    assert host_pool.usage.errors_by_kind == {"timeout": 4}
    assert host_pool.lowest_limit == 1
    assert host_pool._hosts[0].timeout == pytest.approx(0.18)
    assert [record.getMessage() for record in caplog.records] == [
        "fake did not answer within 0.1 s, with 4 under way: from now on it gets one question at a time, and up to "
        "0.18 s for it. If this goes on, raise --timeout and --deadline, lower --query-size, or choose a smaller model"
    ]


@pytest.mark.asyncio
async def test_a_slow_question_gets_more_time_with_each_try() -> None:
    host_pool = pool(Host(takes=0.3), timeout=0.05, deadline=2.0, retries=4)
    assert (await asyncio.wait_for(answer(host_pool), 5)).text == "yes"
    assert host_pool.usage.errors_by_kind == {"timeout": 3}, "0.05 s, 0.1 s and 0.2 s were too short"


@pytest.mark.asyncio
async def test_a_question_in_a_pause_ends_with_the_asking() -> None:
    host_pool = pool(Host(TransientError("full", "out of memory")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backoff, "FIRST_SECONDS", 60.0)
        waiting = asyncio.create_task(answer(host_pool))
        await asyncio.sleep(0.02)
        await host_pool.end(ModelError("the model is gone"))
        with pytest.raises(ModelError, match="the model is gone"):
            await asyncio.wait_for(waiting, 5)


@pytest.mark.asyncio
async def test_an_outage_is_logged_at_once_and_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "LOG_SECONDS", 0.05)
    host = Host(down=True)
    host_pool = pool(host, concurrency=2, give_up_after=900.0)
    waiting = asyncio.gather(*(answer(host_pool) for _ in range(5)))
    await asyncio.sleep(0.15)
    said = [text for record in caplog.records if "no host of fake" in (text := record.getMessage())]
    assert len(said) >= 2
    assert re.fullmatch(
        r"no host of fake takes questions, and the run waits: http://fake: gone "
        r"\(since \d\d:\d\d:\d\d, waited for until \d\d:\d\d:\d\d\)",
        said[0],
    )
    host.down = False
    await asyncio.wait_for(waiting, 5)
    caplog.clear()
    await asyncio.sleep(0.1)
    assert not caplog.records
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_long_load_is_logged_while_it_lasts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loading(Host):
        async def prepare(self, longest: int, max_tokens: int) -> None:
            await asyncio.sleep(0.2)

    monkeypatch.setattr(outage, "LOG_SECONDS", 0.05)
    host_pool = pool(Loading(), timeout=0.02, deadline=30.0)
    await asyncio.wait_for(host_pool.prepare(100, 500), 5)
    assert not host_pool.usage.errors_by_kind, "loading has the patience of the deadline, not of the timeout"
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "fake is being loaded at http://fake: 0 s so far, of 30 s (--deadline)"
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_load_goes_on_when_another_host_is_ready_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(Host):
        loads = 0

        async def prepare(self, longest: int, max_tokens: int) -> None:
            self.loads += 1
            await asyncio.sleep(0.1)

    monkeypatch.setattr(hosts, "READY_GRACE_SECONDS", 0.01)
    loading = Loading()
    host_pool = pool(loading, Host())
    await host_pool.prepare(100, 500)
    assert not host_pool._hosts[0].is_ready
    await asyncio.sleep(0.15)
    assert (host_pool._hosts[0].is_free, loading.loads, loading.probes) == (True, 1, 0)
    await host_pool.close()


@pytest.mark.asyncio
async def test_a_request_holds_its_place_until_the_reply_is_stored() -> None:
    """No more replies than there are places can be lost at once."""
    host_pool = pool(Host(), concurrency=1)
    async with host_pool.answer(REQUEST):
        waiting = asyncio.create_task(answer(host_pool))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert (await waiting).text == "yes"
