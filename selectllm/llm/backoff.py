"""When to ask again: pauses between tries, what a server says of them, and the pace that its refusals teach."""

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

RATE_LIMIT: Final = "rate limit"  # the kind of error of a question that came too soon after others
FIRST_SECONDS: Final = 0.5  # before the second try; doubled before each further one, and spread by chance
MAX_SECONDS: Final = 30.0
FASTER: Final = 0.99  # of the seconds between two questions, with each answer: a limit may have been someone else's

UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
A_YEAR: Final = 366 * UNITS["d"]  # a longer wait is a moment, counted in seconds (or milliseconds) since 1970
QUOTA: Final = re.compile(
    r"usage limit|insufficient_quota|(daily|weekly|monthly) (\w+ )?(limit|quota)|per day", re.IGNORECASE
)

QUOTA_ADVICE: Final = (
    "Replies received so far are kept: look at the account's plan, and run again when there is quota again"
)


def pause_seconds(attempt: int) -> float:
    """Seconds to wait after the failed `attempt` (from 1): longer each time, spread by chance."""
    return min(FIRST_SECONDS * 2.0 ** min(attempt - 1, 30), MAX_SECONDS) * random.uniform(0.5, 1.0)


def is_quota(message: str) -> bool:
    """Whether a refusal is about an amount that is used up, for hours or days: no wait of a run helps."""
    return QUOTA.search(message) is not None


def wait_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a refusal's headers ask to wait; None where they say nothing.

    `Retry-After` (RFC 9110, 10.2.3) and `retry-after-ms` count. Else the resets of the limits that are used up, such as
    `x-ratelimit-reset-tokens`; where none is said to be, the first reset. `headers` are by lower-case names.
    """
    now = now or datetime.now(UTC)
    asked = _seconds(headers.get("retry-after-ms"), now, "ms") or _seconds(headers.get("retry-after"), now)
    if asked:
        return asked
    used_up, others = list[float](), list[float]()
    for name, value in headers.items():
        if "ratelimit" in name and "reset" in name and (seconds := _seconds(value, now)):
            remaining = headers.get(name.replace("reset", "remaining"))
            (used_up if remaining == "0" else others).append(seconds)
    return max(used_up, default=None) or min(others, default=None)


def _seconds(text: str | None, now: datetime, unit: str = "s") -> float | None:
    """Seconds from now, of a number, a duration such as 6m0.5s, a date, or a moment; None where it is over, or none."""
    text = (text or "").strip()
    parts = re.findall(r"([\d.]+)(ms|[smhd])", text)
    try:
        if parts and "".join(map("".join, parts)) == text:
            seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        elif re.fullmatch(r"[\d.]+", text):
            seconds = float(text) * UNITS[unit]
            if seconds > A_YEAR:
                seconds = (seconds / 1000 if seconds > 1e11 else seconds) - now.timestamp()
        else:
            date = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
            seconds = (date - now).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
    return seconds if seconds > 0 else None


class Pace:
    """When a host may be asked next: after a refusal it rests, and then it is asked no faster than it has allowed.

    All times are by time.monotonic.
    """

    def __init__(self) -> None:
        self.refused_since: float | None = None  # the first refusal since the last answer
        self._rests_until = self._next_at = float("-inf")
        self._refusals = 0  # in a row
        self._was_too_fast = False  # in one of them
        self._interval = 0.0  # seconds between two questions
        self._first_at: float | None = None  # when the first question was asked since the interval was learned
        self._answers = 0  # since then

    @property
    def free_at(self) -> float:
        """When the host may be asked again."""
        return max(self._rests_until, self._next_at)

    @property
    def refused_seconds(self) -> float:
        """How long the host will have refused all questions when its rest is over; 0 while it answers."""
        return 0.0 if self.refused_since is None else self._rests_until - self.refused_since

    def is_free(self, now: float, in_flight: int) -> bool:
        """Whether the host may be asked now; after a refusal it gets one question at a time until it answers."""
        return now >= self.free_at and (self.refused_since is None or in_flight == 0)

    def on_start(self, now: float) -> None:
        """Take note that a question is asked."""
        self._first_at = now if self._first_at is None else self._first_at
        self._next_at = now + self._interval

    def on_refusal(self, started: float, now: float, asked_wait: float | None, *, too_fast: bool) -> None:
        """Take note that a question was refused; `asked_wait` is the seconds of rest that the host names."""
        self.refused_since = now if self.refused_since is None else self.refused_since
        self._refusals += started >= self._rests_until  # those that were asked together count as one
        self._was_too_fast = self._was_too_fast or too_fast
        self._rests_until = max(self._rests_until, now + (asked_wait or pause_seconds(self._refusals)))

    def on_answer(self, started: float) -> None:
        """Take note of an answer; the first one after a refusal shows how many questions the host takes in a time."""
        self._answers += 1
        if self.refused_since is None or started < self.refused_since:
            self._interval *= FASTER
            return
        first_at = started if self._first_at is None else self._first_at
        if not self._was_too_fast:  # a rest for another reason says nothing of the pace
            self._first_at = first_at + started - self.refused_since
        else:
            if self._answers > 1:
                self._interval = min((started - first_at) / (self._answers - 1), MAX_SECONDS)
                self._next_at = started + self._interval
            self._first_at, self._answers = started, 1
        self.refused_since, self._refusals, self._was_too_fast = None, 0, False
