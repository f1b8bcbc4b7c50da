"""How many questions a model answers at a time, measured in a time of its own: what the test waits for takes none."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from selectllm.llm.hosts import HostPool
from selectllm.llm.model import Reply, Request
from selectllm.ranking.parallelism import MOST_AT_ONCE, measure
from selectllm.settings import RankingSettings
from selectllm.testing.ollama_answers import shared_beginning
from tests.conftest import FakeModel


class OwnTime(asyncio.SelectorEventLoop):
    """Where nothing is left to do but to wait, its time goes on to the end of the waiting at once."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            waited_for = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            self.now = max(self.now, min(waited_for, default=self.now))
        super()._run_once()  # type: ignore[misc]


class Places(FakeModel):
    """A server with so many places: others queue. A place takes less time for what begins like its last prompt."""

    def __init__(self, places: int, read_delay: float = 0.0, delay: float = 0.0) -> None:
        super().__init__(lambda _: "")
        self.free, self.read_delay, self.delay = asyncio.Semaphore(places), read_delay, delay
        self.read, self.working, self.most = [""] * places, 0, 0

    async def answer(self, request: Request) -> Reply:
        async with self.free:
            self.working += 1
            self.most = max(self.most, self.working)
            last = max(self.read, key=lambda text: shared_beginning(text, request.text))
            self.read.remove(last)
            unread = len(request.text) - shared_beginning(last, request.text)
            await asyncio.sleep(self.delay + self.read_delay * unread / 1000)
            self.read.append(request.text)
            self.working -= 1
            return Reply("{}", "stop")


@pytest.fixture
def own_time(monkeypatch: pytest.MonkeyPatch) -> Callable[..., OwnTime]:
    loop = OwnTime()
    monkeypatch.setattr("selectllm.ranking.parallelism.time", SimpleNamespace(perf_counter=loop.time))
    return lambda: loop


ALIKE = {"delay": 0.1}
READING = {"delay": 0.02, "read_delay": 0.3}
"""What a question takes mostly by reading: a place that has read the task's text needs less for the next one."""


@pytest.mark.parametrize(
    ("places", "delays", "suits"),
    [
        (1, ALIKE, "--concurrency 1 suits it, in place of 4"),
        (2, ALIKE, "--concurrency 2 suits it, in place of 4"),
        (4, ALIKE, "--concurrency 4 suits it"),
        (8, ALIKE, "--concurrency 8 suits it, in place of 4"),
        (100, ALIKE, "--concurrency 16 suits it, in place of 4"),
        (1, READING, "--concurrency 1 suits it, in place of 4"),
        (4, READING, "--concurrency 4 suits it"),
        (8, READING, "--concurrency 8 suits it, in place of 4"),
    ],
)
def test_as_many_questions_as_have_places_are_answered_at_a_time(
    places: int, delays: dict[str, float], suits: str, own_time: Callable[..., OwnTime]
) -> None:
    server = Places(places, **delays)
    hosts = HostPool([server], RankingSettings(concurrency=MOST_AT_ONCE), server.info)
    with asyncio.Runner(loop_factory=own_time) as runner:
        measured = runner.run(measure(hosts))
    at_once = min(places, MOST_AT_ONCE)
    assert measured.at_once == pytest.approx(at_once, rel=0.001 if delays == ALIKE else 0.05)
    assert measured.text(4).endswith(f"at a time; {suits}")
    assert server.most == at_once
