import math

import pytest

from selectllm.llm.model import Reply
from selectllm.llm.speed import Speed, time_warning
from selectllm.settings import RankingSettings

SECOND = 10**9
SLOW = Reply("[1, 2]", "stop", 340, 20, prompt_duration=2 * SECOND, output_duration=SECOND)


def test_the_speed_is_that_of_all_replies_together() -> None:
    other = Reply("[1]", "stop", 20, 10, prompt_duration=SECOND, output_duration=SECOND)
    assert Speed.of([SLOW, other]) == Speed(120.0, 15.0)
    assert Speed(170.0, 20.0).seconds(7_000, 40) == pytest.approx(43.2, abs=0.1)


def test_replies_without_durations_show_no_speed() -> None:
    assert Speed.of([Reply("[1]", "stop", 340, 20)]) is None
    assert Speed.of([]) is None
    assert Speed.of([Reply("[1]", "stop", 340, 20, prompt_duration=SECOND)]) == Speed(340.0, math.inf)


@pytest.mark.parametrize(
    ("seconds", "warning"),
    [
        (119.0, ""),
        (160.0, "it will not be answered within --timeout 120 at the first try: set --timeout 360"),
        (
            700.0,
            "it cannot be answered within --deadline 600: lower --query-size or --candidate-chars, choose a smaller "
            "model, or set --deadline 2100 --timeout 1440",
        ),
    ],
)
def test_a_warning_names_options_that_are_enough(seconds: float, warning: str) -> None:
    assert time_warning(seconds, RankingSettings()) == warning
