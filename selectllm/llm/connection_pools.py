"""Many connections to one server, in small pools: httpx's own pool compares all connections with all at each request.

With 128 questions under way that takes six times the processor time of all else about them.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import httpx

MOST_IN_POOL: Final = 8
"""Requests under way in one pool before the next one is used."""

IDLE_SECONDS: Final = 5.0
"""How long the connections of a pool without a request are kept, as httpx keeps each."""


@dataclass(eq=False)
class _Pool:
    transport: httpx.AsyncHTTPTransport
    under_way: int = 0
    left: float = 0.0  # when it had no request any more, by the monotonic clock

    def leave(self) -> None:
        """Give the room of one request back."""
        self.under_way -= 1
        self.left = time.monotonic()


class ConnectionPools(httpx.AsyncBaseTransport):
    """A transport without a limit of connections: each request goes to the first pool that has room for it.

    So there are as many connections as requests were ever under way at once, as in one large pool. Parameters: what
    `httpx.AsyncHTTPTransport` takes, but for its limits.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options | {"limits": httpx.Limits(max_connections=None)}
        self._pools: list[_Pool] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; it takes its room in a pool until its response is closed. Raises what httpx raises."""
        pool = self._with_room()
        pool.under_way += 1
        try:
            await self._close_idle()
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.leave()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream), "it was asked asynchronously"
        response.stream = _Stream(response.stream, pool)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        async with AsyncExitStack() as closing:  # all of them, even where one cannot be
            for pool in self._pools:
                closing.push_async_callback(pool.transport.aclose)

    async def _close_idle(self) -> None:
        """Close the connections of pools that only a burst of requests needed."""
        latest = time.monotonic() - IDLE_SECONDS
        for pool in self._pools[1:]:
            if pool in self._pools and not pool.under_way and pool.left < latest:
                self._pools.remove(pool)
                await pool.transport.aclose()

    def _with_room(self) -> _Pool:
        pool = next((pool for pool in self._pools if pool.under_way < MOST_IN_POOL), None)
        if pool is None:
            pool = _Pool(httpx.AsyncHTTPTransport(**self._options))
            self._pools.append(pool)
        return pool


class _Stream(httpx.AsyncByteStream):
    """The body of a response, which gives its room in a pool back when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, pool: _Pool) -> None:
        self._stream, self._pool, self._is_open = stream, pool, True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if self._is_open:
                self._is_open = False
                self._pool.leave()
