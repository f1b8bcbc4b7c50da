"""Hosts that refuse questions, and rest."""

import asyncio
import time

import pytest

from selectllm import cancellation
from selectllm.errors import ModelError, Stopped, TransientError
from selectllm.llm.hosts import HostPool
from selectllm.llm.model import Reply, Request
from tests.llm.failing_hosts import Host, answer, pool, refusal

pytestmark = pytest.mark.usefixtures("short_pauses")


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
