"""Tells a question that hosts refuse whenever they see it from hosts that refuse all questions for a while."""

from typing import Final

from selectllm.errors import TransientError
from selectllm.llm.host_state import HostState

MOST_REFUSALS: Final = 10  # of one question: a host that limits its rate seldom turns the same one down so often


class Refusals:
    """The refusals of one question. One counts only where the host has answered others since it refused this one."""

    def __init__(self) -> None:
        self._count = 0
        self._last: TransientError | None = None
        self._answers: dict[int, int] = {}  # how many each host had given when it refused the question last

    @property
    def are_too_many(self) -> bool:
        """Whether it is the question that is refused, and not the moment."""
        return self._count >= MOST_REFUSALS

    def error(self, most_rest: float) -> TransientError | None:
        """The last refusal, if the question may be at fault; None where a host asked for a rest of `most_rest` seconds.

        Such a rest is longer than any run waits: a quota is used up.
        """
        is_quota = self._last is not None and (self._last.retry_after or 0) >= most_rest
        return None if is_quota or not self._count else self._last

    def add(self, host: HostState, error: TransientError) -> None:
        """Take note that a host has refused the question."""
        self._last = error
        self._count += host.answers > self._answers.get(id(host), host.answers)
        self._answers[id(host)] = host.answers
