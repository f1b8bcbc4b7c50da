"""How hosts are asked: tries, time, and how much at once."""

import asyncio
import time

import pytest

from selectllm.errors import ContextLengthExceeded, ModelError, TransientError
from selectllm.llm import backoff
from selectllm.llm.host_state import Deadline
from selectllm.llm.model import Reply, Request
from tests.conftest import FakeModel
from tests.llm.failing_hosts import REQUEST, Host, answer, busy, pool, reset

pytestmark = pytest.mark.usefixtures("short_pauses")


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
async def test_time_in_the_queue_of_a_host_is_summed() -> None:
    second = 10**9
    host = FakeModel(lambda _: Reply("x", "stop", 1, 1, 5 * second, second, second, second))
    host_pool = pool(host, concurrency=1)
    await answer(host_pool)
    assert host_pool.usage.queued_seconds == pytest.approx(2.0)


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
                await asyncio.sleep(0.1 * self.under_way)
                return await super().answer(request)
            finally:
                self.under_way -= 1

    host_pool = pool(Shared(), concurrency=8, timeout=0.45, deadline=9.0, retries=1)
    await asyncio.wait_for(asyncio.gather(*(answer(host_pool) for _ in range(8))), 10)
    assert host_pool.usage.errors_by_kind == {"timeout": 4}
    assert host_pool.lowest_limit == 1
    assert host_pool._hosts[0].timeout == pytest.approx(0.9)
    assert [record.getMessage() for record in caplog.records] == [
        "fake did not answer within 0.5 s, with 4 under way: from now on it gets one question at a time, and up to "
        "0.9 s for it. If this goes on, raise --timeout and --deadline, lower --query-size, or choose a smaller model"
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
async def test_a_request_holds_its_place_until_the_reply_is_stored() -> None:
    """No more replies than there are places can be lost at once."""
    host_pool = pool(Host(), concurrency=1)
    async with host_pool.answer(REQUEST):
        waiting = asyncio.create_task(answer(host_pool))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert (await waiting).text == "yes"
