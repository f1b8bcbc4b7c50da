"""Hosts that disappear, and return."""

import asyncio
import dataclasses
import re

import pytest

from selectllm import cancellation
from selectllm.errors import ModelChanged, ModelUnavailable, Stopped, TransientError
from selectllm.llm import outage
from selectllm.llm.context_guard import warn_once
from tests.llm.failing_hosts import Host, answer, pool, reset

pytestmark = pytest.mark.usefixtures("short_pauses")


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
