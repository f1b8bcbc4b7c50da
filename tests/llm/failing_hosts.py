"""Hosts that fail in the ways that a test wants, and how they are asked."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from selectllm.errors import ModelError, TransientError
from selectllm.llm.host_state import Connect, Deadline
from selectllm.llm.hosts import HostPool
from selectllm.llm.model import ChatModel, Reply, Request
from selectllm.settings import RankingSettings
from tests.conftest import FakeModel

REQUEST = Request("question")


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


class Unready(Host):
    """A host whose preparation fails with these errors, in turn."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def prepare(self, longest: int, max_tokens: int) -> None:
        if self.errors:
            raise self.errors.pop(0)
