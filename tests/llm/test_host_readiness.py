"""Hosts that have to be made ready, and load their model."""

import asyncio

import pytest

from selectllm.errors import ModelError, TransientError
from selectllm.llm import hosts, outage
from tests.llm.failing_hosts import Host, Unready, answer, busy, pool

pytestmark = pytest.mark.usefixtures("short_pauses")


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
