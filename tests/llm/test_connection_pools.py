"""Connections in small pools: as many as there are requests at once, and no more."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from selectllm.errors import TransientError
from selectllm.llm.connection_pools import MOST_IN_POOL, ConnectionPools
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Request
from selectllm.llm.ollama import open_ollama
from selectllm.testing.faulty_ollama import FaultyOllama

pytestmark = pytest.mark.asyncio


class Connections:
    """Accepts connections, and answers each request on them when `may_answer` is set."""

    def __init__(self) -> None:
        self.opened = 0
        self.tasks: list[asyncio.Task[None] | None] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.waiting = asyncio.Semaphore(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.tasks.append(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.waiting.release()
                await self.may_answer.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Connections, str]]:
    served = Connections()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    yield served, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    served.may_answer.set()
    await asyncio.gather(*filter(None, served.tasks))


async def ask_at_once(client: httpx.AsyncClient, served: Connections, where: str, requests: int) -> None:
    """Send requests that are all under way before the first is answered."""
    served.may_answer.clear()
    tasks = [asyncio.create_task(client.get(where)) for _ in range(requests)]
    for _ in tasks:
        await asyncio.wait_for(served.waiting.acquire(), 10)
    served.may_answer.set()
    assert [(await task).text for task in tasks] == ["ok"] * requests


async def test_there_are_as_many_connections_as_requests_at_once() -> None:
    pools = ConnectionPools()
    async with serving() as (served, where), httpx.AsyncClient(transport=pools) as client:
        for _ in range(5):
            await client.get(where)
        assert (served.opened, len(pools._pools)) == (1, 1)
        for _ in range(2):
            await ask_at_once(client, served, where, 2 * MOST_IN_POOL + 1)
            assert (served.opened, len(pools._pools)) == (2 * MOST_IN_POOL + 1, 3)
        assert [pool.under_way for pool in pools._pools] == [0, 0, 0]


async def test_connections_that_only_a_burst_needed_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = ConnectionPools()
    async with serving() as (served, where), httpx.AsyncClient(transport=transport) as client:
        await ask_at_once(client, served, where, 3 * MOST_IN_POOL)
        served.may_answer.set()
        await client.get(where)
        assert [pool.under_way for pool in transport._pools] == [0, 0, 0]
        monkeypatch.setattr("selectllm.llm.connection_pools.IDLE_SECONDS", 0.0)
        await asyncio.gather(*(client.get(where) for _ in range(3)))
        assert [pool.under_way for pool in transport._pools] == [0]
        assert served.opened == 3 * MOST_IN_POOL


async def test_requests_that_fail_or_end_early_give_their_room_back() -> None:
    pools = ConnectionPools()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with serving() as (served, where), httpx.AsyncClient(transport=pools) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{nobody.getsockname()[1]}")
            served.may_answer.clear()
            task = asyncio.create_task(client.get(where))
            await asyncio.wait_for(served.waiting.acquire(), 10)
            assert [pool.under_way for pool in pools._pools] == [1]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert [pool.under_way for pool in pools._pools] == [0]
            served.may_answer.set()
            async with client.stream("GET", where) as response:
                assert [pool.under_way for pool in pools._pools] == [1]
                await response.aclose()
            assert [pool.under_way for pool in pools._pools] == [0]


@pytest.mark.parametrize("fault", ["reset", "cut"])
async def test_answers_that_break_off_give_their_room_back(fault: str) -> None:
    with FaultyOllama({fault: 1.0}, most_in_a_row=3) as server:
        model = await open_ollama("m", host=server.host, keys=ApiKeys())
        pools = model._client._client._transport
        assert isinstance(pools, ConnectionPools)
        for _ in range(3):
            with pytest.raises(TransientError):
                await model.answer(Request("Hello", max_tokens=9))
        assert [pool.under_way for pool in pools._pools] == [0]
        await model.close()
