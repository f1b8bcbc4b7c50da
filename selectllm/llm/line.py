"""A line of those who wait: the first goes on as soon as it can, and none of those behind goes before it."""

import asyncio
from collections.abc import Callable


class Line:
    """Waiting tasks, in the order that they came; one that is woken in vain keeps its place."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Event] = []

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait_for(self, is_possible: Callable[[], bool]) -> None:
        """Wait until the task is the first of the line and goes on: what is possible is asked whenever it is woken.

        What `is_possible` raises ends the wait. No other task runs before the caller's next await.
        """
        woken = asyncio.Event()
        self._waiting.append(woken)
        self.wake()
        try:
            while not (self._waiting[0] is woken and is_possible()):
                woken.clear()
                await woken.wait()
        finally:
            self._waiting.remove(woken)
            self.wake()

    def wake(self) -> None:
        """Have the first look again; when it leaves the line, the next one looks."""
        if self._waiting:
            self._waiting[0].set()
