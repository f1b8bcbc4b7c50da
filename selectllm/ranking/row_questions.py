"""Questions about single rows: what each asks, and how its answer is read. Whoever puts them need not know more."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from selectllm.llm.model import Reply, Request
from selectllm.ranking.answers import REFUSED
from selectllm.ranking.stats import RankingStats


@dataclass(frozen=True)
class Reading:
    """What a reply says: a `value`; or None, with the `fault` in words that the model can be told, and its `kind`."""

    value: Any = None
    fault: str = ""
    kind: str = "used"


def refused() -> Reading:
    """What a reply says that a content filter has ended."""
    return Reading(None, "a content filter ended it", REFUSED)


def unusable(reply: Reply, form: str) -> Reading:
    """Why a reply gives no value: it was ended by a content filter, or cut off, or empty, or else not of the `form`."""
    if reply.done_reason == "content_filter":
        return refused()
    if reply.done_reason != "stop":
        return Reading(None, "it was cut off before its end", "cut off")
    if not reply.text.strip():
        return Reading(None, "it was empty", "empty")
    return Reading(None, f"it was not {form}", "unreadable")


class RowQuestion(Protocol):
    """One question about one row."""

    @property
    def id(self) -> str:
        """The row's id."""

    @property
    def name(self) -> str:
        """What the ledger and errors call the question: no other question of the step has this name."""

    @property
    def attempts(self) -> int:
        """How often it is put in one run, where its answers cannot be used."""

    def request(self, attempt: int = 1, fault: str = "") -> Request:
        """What is sent; from the second attempt on with the `fault` of the answer before."""

    def read(self, reply: Reply) -> Reading:
        """What a reply says."""


@dataclass(frozen=True)
class RowAnswer:
    """The value that a reply gave, and the reply's key."""

    value: Any
    reply: str


@dataclass
class Asking:
    """What asking has given so far, also where an error ends it: the answers by the names of their questions.

    `without_reply` counts questions that got none, by the kind of error; `stats` count what was answered.
    """

    stats: RankingStats = field(default_factory=RankingStats)
    answers: dict[str, RowAnswer] = field(default_factory=dict)
    without_reply: Counter[str] = field(default_factory=Counter)
