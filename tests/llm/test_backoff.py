from datetime import UTC, datetime

import pytest

from selectllm.llm.backoff import (
    FIRST_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    MAX_SECONDS,
    pause_seconds,
    retry_after_seconds,
)

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("attempt", "most"), [(1, FIRST_SECONDS), (2, 1.0), (3, 2.0), (6, 16.0), (7, MAX_SECONDS)])
def test_pauses_double_up_to_a_cap_with_jitter(attempt: int, most: float) -> None:
    pauses = [pause_seconds(attempt) for _ in range(200)]
    assert most / 2 <= min(pauses) < max(pauses) <= most


def test_the_thousandth_pause_is_within_the_cap() -> None:
    assert pause_seconds(1000) <= MAX_SECONDS


def test_a_pause_follows_the_server_up_to_a_limit() -> None:
    assert pause_seconds(1, retry_after=45.0) == 45.0
    assert pause_seconds(9, retry_after=0.1) >= MAX_SECONDS / 2
    assert pause_seconds(1, retry_after=1e9) == MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Sat, 01 Aug 2026 12:01:30 GMT", 90.0),
        ("Sat, 01 Aug 2026 11:00:00 GMT", None),  # a date in the past
        ("Sat, 01 Aug 2026 12:01:30", None),  # a date without a time zone
        ("0", None),
        ("-3", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_the_retry_header_can_hold_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds
