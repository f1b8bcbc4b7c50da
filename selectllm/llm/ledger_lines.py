"""The lines of a ledger: replies, retractions of replies, and ends of runs."""

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from selectllm.llm.model import ModelInfo, Reply
from selectllm.store import Store


@dataclass(frozen=True)
class Entry:
    """A reply and what it answered, as one line of the ledger."""

    key: str
    at: int  # when it was kept, nanoseconds since 1970: of two replies to one question the earlier counts
    prompt: str  # digest of the prompt's text
    model: str  # digest of the model's weights
    shown: tuple[str, ...]  # ids in the order that the prompt showed them
    attempt: int
    seed: int
    outcome: str  # what reading it gives, in a word or two
    reply: Reply
    question: str = ""  # whom the reply is for, such as "query 17, pass 2"; empty in lines of before 0.2

    def line(self) -> bytes:
        """The entry, kept now, as one line of JSON."""
        fields = vars(self) | {"at": time.time_ns(), "reply": vars(self.reply)}
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Entry | None":
        """The entry that a line holds, or None for a torn or foreign line."""
        try:
            fields: dict[str, Any] = json.loads(line)
            return cls(**{**fields, "shown": tuple(fields["shown"]), "reply": Reply(**fields["reply"])})
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True)
class Retraction:
    """Replies that do not count after all: those to the questions `keys` that were kept from `since` to `at`."""

    keys: tuple[str, ...]
    since: int
    at: int = 0

    def line(self) -> bytes:
        """The retraction, made now, as one line of JSON; no reader takes it for a reply."""
        fields = {"retracted": self.keys, "since": self.since, "at": time.time_ns()}
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Retraction | None":
        """The retraction that a line holds, or None for a damaged line, or any other."""
        if not line.startswith(b'{"retracted":'):
            return None
        try:
            fields: dict[str, Any] = json.loads(line)
            return cls(tuple(map(str, fields["retracted"])), int(fields["since"]), int(fields["at"]))
        except (ValueError, TypeError, KeyError):
            return None

    def holds_for(self, at: int) -> bool:
        """Whether an entry of one of the keys that was kept then was kept in that time."""
        return self.since <= at <= self.at


def note_end(store: Store, info: ModelInfo) -> None:
    """Note in the ledger that a run has ended with questions unanswered: later runs may ask each of them once more."""
    at = time.time_ns()
    store.write_bytes(f"replies/{info.key}/{at:020d}-{secrets.token_hex(4)}-end.json", b'{"ended": %d}\n' % at)


def ended(line: bytes) -> int:
    """When a run ended, if the line is its note; 0 for any other line."""
    try:
        return int(json.loads(line)["ended"])
    except (ValueError, TypeError, KeyError):
        return 0
