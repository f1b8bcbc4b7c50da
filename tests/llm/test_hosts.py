"""Deadline with hosts that fail, are slow, go away and come back."""

import asyncio
import dataclasses
import time
from collections.abc import Callable

import pytest

from selectllm import cancellation
from selectllm.errors import ContextLengthExceeded, ModelError, Stopped, TransientError
from selectllm.llm import HostPool, Reply, Request, hosts
from selectllm.llm.absent import AbsentModel
from selectllm.llm.hosts import Deadline
from selectllm.ranking.prompts import Candidate, Prompt
from tests.conftest import ToldModel

REQUEST = Request(Prompt("question", (Candidate("a", "x"),), 1))
Answer = Callable[[], Reply | str]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "BACKOFF", 0.001)
    monkeypatch.setattr(hosts, "PROBE_EVERY", 0.02)


class Host(ToldModel):
    """A host that fails with what it is given, in turn, and then answers; probes fail while it is `down`."""

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


def reset() -> TransientError:
    return TransientError("reset", "connection")


@pytest.mark.asyncio
async def test_what_can_pass_is_tried_again_and_counted() -> None:
    host = Host(busy(), reset(), busy())
    several = HostPool([host], concurrency=1)
    assert (await several.answer(REQUEST)).text == "yes"
    assert several.faults == {"busy": 2, "connection": 1}


@pytest.mark.asyncio
async def test_retries_come_to_an_end() -> None:
    host = Host(*[busy() for _ in range(9)])
    with pytest.raises(TransientError):
        await HostPool([host], concurrency=1, retries=2).answer(REQUEST)
    assert len(host.asked) == 3


@pytest.mark.parametrize("error", [ModelError("refused"), ContextLengthExceeded("too long")])
@pytest.mark.asyncio
async def test_what_cannot_pass_is_raised_at_once(error: ModelError) -> None:
    host = Host(error)
    several = HostPool([host], concurrency=1)
    with pytest.raises(type(error)):
        await several.answer(REQUEST)
    assert len(host.asked) == 1
    assert not several.faults
    assert (await several.answer(REQUEST)).text == "yes", "its place is free again"


@pytest.mark.asyncio
async def test_a_request_that_hangs_is_given_up_after_the_timeout() -> None:
    several = HostPool([Host(takes=30)], concurrency=1, timeout=0.02, retries=1)
    started = time.monotonic()
    with pytest.raises(TransientError, match="did not answer within"):
        await several.answer(REQUEST)
    assert several.faults == {"timeout": 2}
    assert time.monotonic() - started < 5


@pytest.mark.asyncio
async def test_memory_that_is_short_is_given_one_more_try() -> None:
    host = Host(*[TransientError("full", "out of memory") for _ in range(9)])
    with pytest.raises(TransientError):
        await HostPool([host], concurrency=1, retries=4).answer(REQUEST)
    assert len(host.asked) == 2


@pytest.mark.asyncio
async def test_the_deadline_bounds_all_tries_together() -> None:
    several = HostPool([Host(takes=30)], concurrency=1, timeout=0.05, deadline=0.12, retries=100)
    with pytest.raises(TransientError):
        await several.answer(REQUEST)
    assert 2 <= several.faults["timeout"] <= 3


@pytest.mark.asyncio
async def test_the_limit_halves_when_a_host_is_slow_and_recovers_slowly() -> None:
    host = Host(busy(), busy(), busy())
    several = HostPool([host], concurrency=16)
    await several.answer(REQUEST)
    lane = several._lanes[0]
    assert several.lowest_limit == 2
    assert lane.limit < 4
    for _ in range(400):
        await several.answer(REQUEST)
    assert lane.limit == 16


@pytest.mark.asyncio
async def test_failures_of_one_moment_halve_the_limit_once() -> None:
    several = HostPool([Host(*[busy() for _ in range(4)], takes=0.01)], concurrency=4)
    await asyncio.gather(*(several.answer(REQUEST) for _ in range(4)))
    assert several.lowest_limit == 2


@pytest.mark.asyncio
async def test_other_failures_do_not_slow_down() -> None:
    several = HostPool([Host(reset(), reset())], concurrency=8)
    await several.answer(REQUEST)
    assert several.lowest_limit == 8


@pytest.mark.asyncio
async def test_a_dead_host_is_left_out_and_comes_back() -> None:
    dead, alive = Host(down=True), Host(takes=0.001)
    several = HostPool([dead, alive], concurrency=2, retries=20)
    await asyncio.gather(*(several.answer(REQUEST) for _ in range(40)))
    assert several._lanes[0].left_out_since is not None
    assert len(alive.asked) == 40
    dead.down = False
    await asyncio.sleep(0.1)
    assert several._lanes[0].left_out_since is None
    await asyncio.gather(*(several.answer(REQUEST) for _ in range(40)))
    assert len(dead.asked) > 5
    await several.close()


@pytest.mark.asyncio
async def test_hosts_share_the_load() -> None:
    several = HostPool(both := [Host(takes=0.002), Host(takes=0.002)], concurrency=3)
    await asyncio.gather(*(several.answer(REQUEST) for _ in range(60)))
    assert min(len(host.asked) for host in both) >= 20


@pytest.mark.asyncio
async def test_while_all_are_out_questions_wait_and_deadlines_stand_still() -> None:
    host = Host(down=True)
    several = HostPool([host], concurrency=8, deadline=0.2, retries=4)
    waiting = asyncio.gather(*(several.answer(REQUEST) for _ in range(20)))
    await asyncio.sleep(0.4)
    assert host.probes >= 2
    host.down = False
    assert len(await waiting) == 20
    await several.close()


@pytest.mark.asyncio
async def test_an_outage_that_lasts_is_given_up_with_everything_kept() -> None:
    several = HostPool([Host(down=True)], concurrency=8, give_up_after=0.1)
    with pytest.raises(ModelError, match=r"no host of told has answered for .* Replies received so far are kept"):
        await asyncio.gather(*(several.answer(REQUEST) for _ in range(20)))
    await several.close()


@pytest.mark.asyncio
async def test_a_host_that_probes_well_but_answers_never_does_not_hold_a_question_for_ever() -> None:
    host = Host(*[reset() for _ in range(1000)])
    several = HostPool([host], concurrency=4, retries=6)
    with pytest.raises(TransientError):
        await asyncio.wait_for(several.answer(REQUEST), 5)
    assert len(host.asked) == 8, "its seven tries, and one more after an outage"
    await several.close()


@pytest.mark.asyncio
async def test_time_in_the_hosts_queue_is_added_up() -> None:
    second = 10**9
    host = ToldModel(lambda _: Reply("x", "stop", 1, 1, 5 * second, second, second, second))
    several = HostPool([host], concurrency=1)
    await several.answer(REQUEST)
    assert several.queued == pytest.approx(2.0)


class Unready(Host):
    """A host that meets preparation with errors, in turn."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def prepare(self, longest: int, room: int) -> None:
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.asyncio
async def test_a_model_that_no_host_can_make_ready_is_one_error() -> None:
    with pytest.raises(ModelError, match="no such file"):
        await HostPool([Unready(ModelError("no such file"))], concurrency=1).prepare(100, 500)


@pytest.mark.asyncio
async def test_a_host_that_cannot_be_made_ready_is_left_out_where_another_can() -> None:
    unready, ready = Unready(*[ModelError("no such file")] * 1000), Host()
    several = HostPool([unready, ready], concurrency=1)
    await several.prepare(100, 500)
    await asyncio.gather(*(several.answer(REQUEST) for _ in range(4)))
    assert (len(unready.asked), len(ready.asked)) == (0, 4)
    await several.close()


@pytest.mark.asyncio
async def test_a_host_that_hangs_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Host):
        async def prepare(self, longest: int, room: int) -> None:
            await asyncio.sleep(60)

    monkeypatch.setattr(hosts, "READY_GRACE_SECONDS", 0.05)
    several = HostPool([Hanging(), Host()], concurrency=1)
    await asyncio.wait_for(several.prepare(100, 500), 5)
    assert (await several.answer(REQUEST)).text == "yes"
    await several.close()


@pytest.mark.asyncio
async def test_whoever_does_not_want_to_wait_hears_of_a_busy_host_at_once() -> None:
    several = HostPool([Unready(*[busy()] * 9)], concurrency=1, retries=0)
    with pytest.raises(TransientError, match="could not be made ready: busy"):
        await several.prepare(100, 500, wait=False)


@pytest.mark.asyncio
async def test_a_question_that_has_no_time_left_says_nothing_of_the_host() -> None:
    several = HostPool([Host(takes=30)], concurrency=8, timeout=60, deadline=0.05)
    for _ in range(6):
        with pytest.raises(TransientError):
            await several.answer(REQUEST)
        with pytest.raises(TransientError, match="for a question, and took them"):
            await several.answer(REQUEST, patience=Deadline(0.0))
    assert several.faults == {"deadline": 6}
    assert several.lowest_limit == 8
    assert several._lanes[0].left_out_since is None


@pytest.mark.asyncio
async def test_a_host_too_busy_to_be_made_ready_is_waited_for() -> None:
    several = HostPool([Unready(*[busy() for _ in range(7)])], concurrency=1, retries=2)
    await several.prepare(100, 500)
    assert (await asyncio.wait_for(several.answer(REQUEST), 5)).text == "yes"
    assert several.faults == {"busy": 7}
    await several.close()


@pytest.mark.asyncio
async def test_what_is_never_made_ready_is_given_up_with_what_was_heard() -> None:
    several = HostPool([Unready(*[busy()] * 1000)], concurrency=1, retries=0, give_up_after=0.1)
    await several.prepare(100, 500)
    with pytest.raises(ModelError, match="Last heard: told could not be made ready: busy"):
        await asyncio.wait_for(several.answer(REQUEST), 5)
    await several.close()


@pytest.mark.asyncio
async def test_a_probe_that_fails_in_an_unknown_way_is_followed_by_others() -> None:
    class Odd(Host):
        async def probe(self) -> None:
            self.probes += 1
            if self.probes < 3:
                raise KeyError("version")
            self.down = False

    host = Odd(down=True)
    several = HostPool([host], concurrency=2, retries=0)
    several._leave_out(several._lanes[0])
    assert (await asyncio.wait_for(several.answer(REQUEST), 5)).text == "yes"
    await several.close()


@pytest.mark.asyncio
async def test_one_question_alone_waits_out_an_outage_whatever_tries_it_has_left() -> None:
    host = Host(down=True)
    several = HostPool([host], concurrency=1, retries=4)
    waiting = asyncio.create_task(several.answer(REQUEST))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    host.down = False
    assert (await asyncio.wait_for(waiting, 5)).text == "yes"
    await several.close()


@pytest.mark.asyncio
async def test_a_stop_is_heard_while_all_hosts_are_out() -> None:
    several = HostPool([Host(down=True)], concurrency=1)
    several._leave_out(several._lanes[0])
    waiting = asyncio.create_task(several.answer(REQUEST, cancellation.check))
    await asyncio.sleep(0.05)
    cancellation.stop()
    with pytest.raises(Stopped):
        await asyncio.wait_for(waiting, 5)
    await several.close()


@pytest.mark.asyncio
async def test_a_host_that_comes_back_as_another_version_is_met_again() -> None:
    met: list[Host] = []

    async def meet() -> Host:
        host = Host()
        host.card = dataclasses.replace(host.card, digest="old" if not met else host.card.digest)
        met.append(host)
        return host

    absent = AbsentModel(meet)
    several = HostPool([absent], concurrency=1, card=ToldModel(lambda _: "").card)
    await several.prepare(100, 500)
    assert (await asyncio.wait_for(several.answer(REQUEST), 5)).text == "yes"
    assert len(met) == 2
    await several.close()
