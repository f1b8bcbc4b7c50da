"""Measures how many questions a model answers at a time, and what `--concurrency` suits it.

A server keeps what it has read: a question that begins like an earlier one takes less time. So the questions here share
the text of the task and nothing else. All places of the server read that text before the clock starts.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from selectllm.llm.hosts import HostPool
from selectllm.llm.model import Reply, Request, Think
from selectllm.ranking.lists import gather_or_raise
from selectllm.ranking.prompts import Candidate, listwise, pointwise

LEVELS: Final = (4, 16)
"""Questions sent together; more only where the server has answered nearly all of these at once."""

MOST_AT_ONCE: Final = max(LEVELS)
NEARLY_ALL: Final = 0.75
ALONE: Final = 3  # questions sent one by one, of which the median counts
SIZE: Final = 4  # candidates of a question

TASKS: Final = ("Describe", "Compare", "Summarize", "Criticize", "Explain", "Question", "Translate", "Illustrate")
THINGS: Final = ("tides", "bridges", "vaccines", "elections", "volcanoes", "orchestras", "glaciers", "markets", "looms")
READERS: Final = ("a new nurse", "two pupils", "an engineer", "a tired judge", "some farmers")


@dataclass(frozen=True)
class Parallelism:
    """`single`: seconds of one question alone. `together`: seconds of `questions` that were sent at once."""

    single: float
    together: float
    questions: int

    @property
    def at_once(self) -> float:
        """How many questions the model answers at a time."""
        return self.questions * self.single / self.together

    @property
    def concurrency(self) -> int:
        """The `--concurrency` that suits: as many questions as are answered at a time."""
        return max(1, min(round(self.at_once), self.questions))

    def text(self, concurrency: int) -> str:
        """What was measured, and the concurrency to set where it is another than the one that is set."""
        seen = f"{self.single:.2f} s for one question, {self.together:.2f} s for {self.questions} at once"
        advice = f"--concurrency {self.concurrency} suits it"
        if self.concurrency != concurrency:
            advice += f", in place of {concurrency}"
        return f"{seen}: about {self.at_once:.1f} at a time; {advice}"


async def measure(hosts: HostPool, think: Think = False) -> Parallelism:
    """Ask about 14 tiny questions, and 32 more where a server answers many at once; raises ModelError."""
    requests = _requests(hosts, think)
    singles: list[float] = []
    for questions in LEVELS:
        await _seconds(hosts, requests, questions)  # all places read the task's text, and the model is loaded
        if not singles:
            singles = [await _seconds(hosts, requests, 1) for _ in range(ALONE)]
        measured = Parallelism(statistics.median(singles), await _seconds(hosts, requests, questions), questions)
        if measured.at_once < NEARLY_ALL * questions:
            break
    return measured


async def ask_one(hosts: HostPool, request: Request) -> Reply:
    """The reply to a request, which is kept nowhere."""
    async with hosts.answer(request) as (reply, _):
        return reply


async def _seconds(hosts: HostPool, requests: Iterator[Request], questions: int) -> float:
    started = time.perf_counter()
    await gather_or_raise(ask_one(hosts, next(requests)) for _ in range(questions))
    return time.perf_counter() - started


def _requests(hosts: HostPool, think: Think) -> Iterator[Request]:
    """Questions as a run puts them, all of the same length and each about candidates of its own."""
    for number in count():
        candidates = [_candidate(SIZE * number + place) for place in range(SIZE)]
        if hosts.info.mode == "pointwise":
            yield pointwise(candidates[0]).request()
        else:
            yield listwise(candidates, 2, 0).request(think=think)


def _candidate(number: int) -> Candidate:
    task, thing, reader = TASKS[number % len(TASKS)], THINGS[number % len(THINGS)], READERS[number % len(READERS)]
    text = f"{task} {thing} to {reader}, as case {number:04d} of a series on {thing}, with one example of each kind."
    return Candidate(f"{number:04d}", text)
