"""Near repeats among the chosen rows are counted and told."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from selectllm import RunSettings, select
from selectllm.ranking.near_repeats import count_near_repeats
from selectllm.report.format import counts

ENDINGS = ("a red ball", "two old friends", "the last train", "nothing at all", "her own shadow", "a quiet reply")
SENTENCE = "Finish the story that begins like this: on a cold evening in March the clockmaker opened his door and saw"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([f"{SENTENCE} {ending}" for ending in ENDINGS], 5),
        ([f"{number}. {SENTENCE}" for number in range(100)], 99),
        (["Explain the tides.", "Explain the seasons.", "Why is the sky blue?", "Plan a week of packed lunches."], 0),
        (["Write a short story about a dog that learns to sing", "Write a short poem about the end of a long war"], 0),
        (["What is 2 + 2?", "What is 2 + 3?", "?", "!", "", "Hello!", "hello"], 1),
        (["请把下面这段文字翻译成英文并说明理由一", "请把下面这段文字翻译成英文并说明理由二", "写一首关于秋天的诗"], 1),
        ([], 0),
    ],
)
def test_texts_that_share_half_their_wording_are_near_repeats(texts: list[str], found: int) -> None:
    assert count_near_repeats(texts) == found


def test_many_texts_of_one_beginning_take_little_time() -> None:
    texts = [
        f"{SENTENCE} {number} things: " + " ".join(f"w{number}x{word}" for word in range(60)) for number in range(3000)
    ]
    started = time.perf_counter()
    assert count_near_repeats(texts) == 0
    assert time.perf_counter() - started < 5


def test_the_summary_counts_near_repeats_and_the_run_says_so(
    make_run: Callable[..., RunSettings], tmp_path: Path
) -> None:
    pool = tmp_path / "endings.jsonl"
    rows = [{"instruction": f"{SENTENCE} {ending}"} for ending in ENDINGS] + [{"instruction": "Explain the tides."}]
    pool.write_text("\n".join(map(json.dumps, rows)))
    summary = select(make_run(pool=str(pool), budget=7, strategy="longest")).summary
    assert summary["near_repeats"] == 5
    assert "5 of the chosen rows nearly repeat another: they share at least half of their wording." in counts(summary)
    summary = select(make_run(pool=str(pool), budget=1, strategy="longest")).summary
    assert summary["near_repeats"] == 0
    assert "nearly repeat" not in " ".join(counts(summary))
