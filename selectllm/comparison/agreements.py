"""How far the selectors of one strategy agree: whether a cheaper model would have put the rows in the same order."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from selectllm.comparison.outcomes import Outcome
from selectllm.evaluation.measures import agreement_of
from selectllm.store import Artifact, Store


@dataclass(frozen=True)
class Agreement:
    """Of two selectors of one strategy at one budget: means over seeds, None where no seed has a value."""

    strategy: str
    budget: int
    selectors: tuple[str, str]
    kendalls_tau: float | None
    top_overlap: float | None


def agreements(store: Store, outcomes: Sequence[Outcome]) -> list[Agreement]:
    """Compare the preferences of all pairs of selectors, each with those of the same strategy, budget and seed."""
    groups: dict[tuple[str, int, int], dict[str, str]] = defaultdict(dict)
    for outcome in outcomes:
        cell = outcome.cell
        if cell.selector and outcome.preferences:
            groups[cell.strategy, cell.budget, cell.seed][cell.selector] = outcome.preferences
    found: dict[tuple[str, int, tuple[str, str]], list[tuple[object, object]]] = defaultdict(list)
    for (strategy, budget, _), keys in groups.items():
        if len(keys) < 2:
            continue
        tables = {selector: store.read(Artifact(kind="preferences", key=key)) for selector, key in keys.items()}
        for pair in combinations(tables, 2):
            values = agreement_of(tables[pair[0]], tables[pair[1]], budget)
            found[strategy, budget, pair].append((values["kendalls_tau"], values["top_overlap"]))
    return [
        Agreement(strategy, budget, pair, _mean([tau for tau, _ in values]), _mean([top for _, top in values]))
        for (strategy, budget, pair), values in found.items()
    ]


def _mean(values: Sequence[object]) -> float | None:
    """The mean of the values that are numbers."""
    numbers = [value for value in values if isinstance(value, float)]
    return float(np.mean(numbers)) if numbers else None
