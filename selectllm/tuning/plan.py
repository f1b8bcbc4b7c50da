"""What a fine-tuning will take, from real tokens and a step that is timed."""

import time
from typing import Any

from selectllm.execution import no_progress
from selectllm.tuning.inputs import load_and_encode, read_inputs
from selectllm.tuning.score import score
from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.train import begin, count_steps, take_step

_SCORED = 8


def plan_tuning(settings: TuningSettings) -> dict[str, Any]:
    """Load the base, time one step and the scoring of a few rows, and write nothing.

    Returns steps, tokens, and `seconds` for training and scoring, of this machine as busy as it is now.
    Raises UsageError as `tune` does.
    """
    inputs = read_inputs(settings)
    loaded, rows = load_and_encode(inputs)
    steps, train = count_steps(len(rows.train.rows), settings), rows.train.rows
    training = begin(loaded, settings)
    by_length = sorted(train, key=len)
    middle = max(0, (len(by_length) - settings.batch) // 2)
    step = by_length[middle : middle + settings.batch]
    take_step(training, step[:1], settings, 1.0)  # the first one sets things up
    started = time.perf_counter()
    take_step(training, step, settings, 1.0)
    of_step = time.perf_counter() - started
    # Scoring reads as many tokens of rows of all lengths, so it is taken in proportion to them.
    seconds = {"training": of_step * steps * _tokens(train) / len(train) / (_tokens(step) / len(step))}
    if rows.test:
        held_out = sorted(rows.test.rows, key=len)
        some = held_out[:: max(1, len(held_out) // _SCORED)]
        started = time.perf_counter()
        score(training.model, some, no_progress)
        each = (time.perf_counter() - started) / _tokens(some)
        seconds["scoring"] = 2 * each * _tokens(held_out)
    return {
        **rows.counts(),
        "base": inputs.base.name,
        "steps": steps,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def _tokens(rows: Any) -> int:
    return sum(map(len, rows))
