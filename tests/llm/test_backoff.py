from datetime import UTC, datetime

import pytest

from selectllm.llm.backoff import FIRST_SECONDS, MAX_SECONDS, Pace, is_quota, pause_seconds, wait_seconds

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
MOMENT = NOW.timestamp()


@pytest.mark.parametrize(("attempt", "most"), [(1, FIRST_SECONDS), (2, 1.0), (3, 2.0), (6, 16.0), (7, MAX_SECONDS)])
def test_pauses_double_up_to_a_cap_with_jitter(attempt: int, most: float) -> None:
    pauses = [pause_seconds(attempt) for _ in range(200)]
    assert most / 2 <= min(pauses) < max(pauses) <= most


def test_the_thousandth_pause_is_within_the_cap() -> None:
    assert pause_seconds(1000) <= MAX_SECONDS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("86400", 86_400.0),
        ("Sat, 01 Aug 2026 12:01:30 GMT", 90.0),
        ("Sat, 01 Aug 2026 11:00:00 GMT", None),  # a date in the past
        ("Sat, 01 Aug 2026 12:01:30", None),  # a date without a time zone
        ("0", None),
        ("-3", None),
        ("inf", None),
        ("1.2.3", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_retry_after_header_is_read(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}
    assert wait_seconds(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "7", "x-ratelimit-reset-requests": "1m0s"}, 7.0),
        ({"x-ratelimit-reset-requests": "6m0.5s"}, 360.5),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset": f"{MOMENT + 12:.0f}"}, 12.0),  # seconds since 1970
        ({"x-ratelimit-reset": f"{1000 * (MOMENT + 12):.0f}"}, 12.0),  # milliseconds since 1970
        ({"ratelimit-reset": "30"}, 30.0),
        ({"anthropic-ratelimit-requests-reset": "2026-08-01T12:00:05Z"}, 5.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "9s"}, 1.0),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "8",
                "x-ratelimit-reset-tokens": "9s",
                "x-ratelimit-remaining-tokens": "0",
            },
            9.0,  # that of the limit which is used up
        ),
        ({"x-ratelimit-reset-requests": "later", "content-type": "text/plain"}, None),
    ],
)
def test_resets_of_rate_limits_are_read(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_seconds(headers, NOW) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("you have reached your usage limit, please upgrade to continue", True),
        ("insufficient_quota insufficient_quota You exceeded your current quota", True),
        ("Your daily token limit is used up", True),
        ("Rate limit reached for requests per minute", False),
        ("too many concurrent requests", False),
    ],
)
def test_a_used_up_quota_is_recognised(message: str, expected: bool) -> None:
    assert is_quota(message) == expected


def test_a_host_rests_as_long_as_it_asks() -> None:
    pace = Pace()
    pace.on_start(0.0)
    pace.on_refusal(0.0, 1.0, 30.0, too_fast=True)
    pace.on_refusal(0.0, 2.0, 20.0, too_fast=True)
    assert (pace.free_at, pace.refused_seconds) == (31.0, 30.0)
    assert not pace.is_free(30.0, 0)
    assert pace.is_free(31.0, 0)
    assert not pace.is_free(31.0, 1), "one question at a time until it answers"


def test_rests_grow_while_a_host_names_no_time() -> None:
    pace, now = Pace(), 0.0
    for refusals in range(1, 5):
        pace.on_refusal(now, now, None, too_fast=True)
        pace.on_refusal(now - 0.01, now, None, too_fast=True)  # asked together with the other: it adds nothing
        rest = pace.free_at - now
        assert FIRST_SECONDS * 2 ** (refusals - 1) / 2 <= rest <= FIRST_SECONDS * 2 ** (refusals - 1)
        now = pace.free_at


def test_the_first_answer_after_a_refusal_shows_the_pace() -> None:
    pace = Pace()
    for moment in range(10):
        pace.on_start(moment / 10)
        pace.on_answer(moment / 10)
    pace.on_start(1.0)
    pace.on_refusal(1.0, 1.0, 29.0, too_fast=True)
    pace.on_start(30.0)
    pace.on_answer(30.0)
    assert pace.free_at == pytest.approx(33.0), "ten questions in 30 s are one in 3 s"
    pace.on_start(33.0)
    assert pace.free_at == pytest.approx(36.0)


def test_a_wait_that_is_not_for_asking_too_fast_teaches_no_pace() -> None:
    pace = Pace()
    pace.on_start(0.0)
    pace.on_answer(0.0)
    pace.on_refusal(1.0, 1.0, 60.0, too_fast=False)
    pace.on_start(61.0)
    pace.on_answer(61.0)
    assert pace.is_free(61.0, 3)


def test_a_pace_gets_faster_with_each_answer() -> None:
    pace = Pace()
    for started, refused in ((0.0, False), (1.0, True), (4.0, False)):
        pace.on_start(started)
        if refused:
            pace.on_refusal(started, started, 3.0, too_fast=True)
        else:
            pace.on_answer(started)
    for number in range(200):
        pace.on_start(10.0 + number)
        pace.on_answer(10.0 + number)
    pace.on_start(1000.0)
    assert 1000.0 < pace.free_at < 1001.0
