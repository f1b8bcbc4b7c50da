"""Sums a comparison up: the mean of each measure over seeds, and its difference to random draws, with intervals."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selectllm.comparison.agreements import Agreement
from selectllm.comparison.cells import REFERENCE
from selectllm.comparison.outcomes import Outcome
from selectllm.comparison.settings import ComparisonSettings
from selectllm.evaluation.bootstrap import Interval, Verdict, band, paired_difference, verdict
from selectllm.evaluation.measures import COST

Way = tuple[str, str | None]
"""A strategy, and the selector that it asks, if it asks one."""


@dataclass(frozen=True)
class Estimate:
    """One measure of one way at one budget: `by_seed`, its mean, and how it differs from the reference.

    `interval` is that of the mean, None with one seed; `difference` is None for the reference itself, and where either
    has no value.
    """

    way: Way
    budget: int
    measure: str
    by_seed: Mapping[int, float]
    interval: Interval | None
    difference: Interval | None
    verdict: Verdict | None

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(list(self.by_seed.values())))


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: its settings, what its cells came to, and what follows from them."""

    settings: ComparisonSettings
    outcomes: Sequence[Outcome]
    estimates: Sequence[Estimate]
    agreements: Sequence[Agreement] = ()


def way_of(outcome: Outcome) -> Way:
    """The way that an outcome's cell belongs to."""
    return outcome.cell.strategy, outcome.cell.selector


def way_name(way: Way) -> str:
    """A way in words."""
    strategy, selector = way
    return f"{strategy} by {selector}" if selector else strategy


def estimates(outcomes: Sequence[Outcome]) -> list[Estimate]:
    """All estimates, by budget, measure and way, each in the order in which the outcomes have them."""
    values: dict[tuple[int, str], dict[Way, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for outcome in outcomes:
        for measure, value in outcome.values.items():
            if value is not None:
                values[outcome.cell.budget, measure][way_of(outcome)][outcome.cell.seed] = value
    return [
        _estimate(way, budget, measure, by_seed, ways.get((REFERENCE, None), {}))
        for (budget, measure), ways in values.items()
        for way, by_seed in ways.items()
    ]


def _estimate(
    way: Way, budget: int, measure: str, by_seed: Mapping[int, float], reference: Mapping[int, float]
) -> Estimate:
    own = list(by_seed.values())
    interval = paired_difference(own, [0.0] * len(own)) if len(own) > 1 else None
    if way[0] == REFERENCE or len(reference) < 2 or measure in COST.values:  # random draws cost nothing
        return Estimate(way, budget, measure, by_seed, interval, None, None)
    pairs = _pairs(by_seed, reference)
    difference = paired_difference([one for one, _ in pairs], [other for _, other in pairs])
    found = verdict(difference, float(np.mean(own)), band(list(reference.values())))
    return Estimate(way, budget, measure, by_seed, interval, difference, found)


def _pairs(by_seed: Mapping[int, float], reference: Mapping[int, float]) -> list[tuple[float, float]]:
    """The values of common seeds; what was done with one seed stands in every pair."""
    if len(by_seed) == 1:
        (only,) = by_seed.values()
        return [(only, other) for other in reference.values()]
    return [(by_seed[seed], reference[seed]) for seed in by_seed if seed in reference]


def overlaps(outcomes: Sequence[Outcome], budget: int) -> dict[tuple[Way, Way], float]:
    """The share of rows that two ways both choose, over the rows that either does (Jaccard), mean over common seeds.

    A way without seeds is compared with each seed of the other; with itself at other seeds, where it has several.
    """
    chosen: dict[Way, dict[int, frozenset[str]]] = defaultdict(dict)
    for outcome in outcomes:
        if outcome.cell.budget == budget and outcome.ids:
            chosen[way_of(outcome)][outcome.cell.seed] = frozenset(outcome.ids)
    return {(one, other): _overlap(chosen[one], chosen[other], one == other) for one in chosen for other in chosen}


def _overlap(one: Mapping[int, frozenset[str]], other: Mapping[int, frozenset[str]], is_same: bool) -> float:
    if is_same:
        pairs = [(first, second) for number, first in one.items() for seed, second in one.items() if number < seed]
    elif len(one) == 1 or len(other) == 1:
        pairs = [(first, second) for first in one.values() for second in other.values()]
    else:
        pairs = [(one[seed], other[seed]) for seed in one if seed in other]
    return float(np.mean([len(first & second) / len(first | second) for first, second in pairs])) if pairs else 1.0
