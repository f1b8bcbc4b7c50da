"""How long to wait before a request is tried again."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

FIRST_SECONDS: Final = 0.5  # before the second try; doubled before each further one, and spread by chance
MAX_SECONDS: Final = 30.0
MAX_RETRY_AFTER_SECONDS: Final = 600.0  # for a server that asks for more


def pause_seconds(attempt: int, retry_after: float | None = None) -> float:
    """Seconds to wait after the failed `attempt` (from 1): as long as the server asks, or longer each time."""
    pause = min(FIRST_SECONDS * 2.0 ** min(attempt - 1, 30), MAX_SECONDS) * random.uniform(0.5, 1.0)
    return max(pause, min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """What a Retry-After header asks for: a number of seconds or an HTTP date (RFC 9110, 10.2.3); None for neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a zone
            return None
    return seconds if 0 < seconds < float("inf") else None
