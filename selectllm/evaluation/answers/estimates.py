"""What scores of answers come to: a mean for each seed and model, intervals, and differences of models, by questions.

The unit of the intervals is the question: they say what other questions of this kind would have given. What another
tuning would have given is in the values of the seeds, and in the interval over seeds where there are two or more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from selectllm.evaluation.bootstrap import Interval, paired_difference

Scores = Mapping[tuple[str, int], float]
"""Scores by question and seed; what is missing is not there."""


@dataclass(frozen=True)
class Estimate:
    """What a model scored: the mean over questions of each question's mean over seeds; None where it has no score."""

    model: str
    measure: str
    mean: float | None
    interval: Interval | None
    by_seed: Mapping[int, float]
    scored: int
    missing: int


@dataclass(frozen=True)
class Difference:
    """The mean of `first` less `second` over the questions that both have scores for, None without two of them.

    `over_seeds` is the same over the seeds that both have, by their means.
    """

    first: str
    second: str
    measure: str
    over_questions: Interval | None
    over_seeds: Interval | None


def estimate(model: str, measure: str, scores: Scores, asked: int) -> Estimate:
    """What a model's scores come to, of so many that it could have."""
    means, by_seed = by_question(scores), seed_means(scores)
    mean = float(np.mean(list(means.values()))) if means else None
    zeros = [0.0] * len(means)
    interval = paired_difference(list(means.values()), zeros) if len(means) > 1 else None
    return Estimate(model, measure, mean, interval, by_seed, len(scores), asked - len(scores))


def differences(measure: str, models: Mapping[str, Scores]) -> list[Difference]:
    """The differences of all pairs of models, each less the next ones."""
    found = []
    for first, second in combinations(models, 2):
        questions = _paired(by_question(models[first]), by_question(models[second]))
        seeds = _paired(seed_means(models[first]), seed_means(models[second]))
        found.append(Difference(first, second, measure, questions, seeds))
    return found


def by_question(scores: Scores) -> dict[str, float]:
    """The mean over seeds of each question that has a score."""
    found: dict[str, list[float]] = {}
    for (id, _), score in scores.items():
        found.setdefault(id, []).append(score)
    return {id: float(np.mean(values)) for id, values in found.items()}


def seed_means(scores: Scores) -> dict[int, float]:
    """The mean over questions of each seed that has a score."""
    found: dict[int, list[float]] = {}
    for (_, seed), score in scores.items():
        found.setdefault(seed, []).append(score)
    return {seed: float(np.mean(found[seed])) for seed in sorted(found)}


def _paired(first: Mapping[Any, float], second: Mapping[Any, float]) -> Interval | None:
    shared: Sequence[Any] = [name for name in first if name in second]
    if len(shared) < 2:
        return None
    return paired_difference([first[name] for name in shared], [second[name] for name in shared])


def as_values(found: Estimate | Difference) -> dict[str, Any]:
    """An estimate or a difference as values that JSON has words for."""
    values = asdict(found)
    if isinstance(found, Estimate):
        values["by_seed"] = {str(seed): mean for seed, mean in found.by_seed.items()}
    return values
