"""How hosts are asked, what is known of each one's health, and how much time a question has left."""

from dataclasses import dataclass

from selectllm.llm.model import ChatModel
from selectllm.settings import RankingSettings


@dataclass(frozen=True)
class HostOptions:
    """How hosts are asked.

    `concurrency` is the most questions under way on each host; `timeout`, seconds of one request; `deadline`, seconds
    of all requests and pauses of one question; `retries`, further tries after errors that can pass; `give_up_after`,
    seconds that all hosts may be out before the run is given up.
    """

    concurrency: int = 1
    timeout: float = 120.0
    deadline: float = 600.0
    retries: int = 4
    give_up_after: float = 900.0

    @classmethod
    def of(cls, settings: RankingSettings) -> "HostOptions":
        """The options that the settings name."""
        return cls(settings.concurrency, settings.timeout, settings.deadline, settings.retries, settings.give_up_after)


@dataclass
class HostState:
    """A host and its health."""

    model: ChatModel
    limit: float  # questions at once that it takes well, as far as is known: halved when it is slow, regained slowly
    in_flight: int = 0
    failures: int = 0  # in a row
    down_since: float | None = None
    is_ready: bool = False  # prepared for this run's prompts
    last_error: str = ""  # of the last probe
    slowed_at: float = float("-inf")

    @property
    def is_free(self) -> bool:
        """Whether it can take one more question."""
        return self.down_since is None and self.in_flight < max(1, int(self.limit))


@dataclass
class Deadline:
    """Seconds that are left for one question: for all requests, and the pauses between them, until it is answered."""

    left: float
