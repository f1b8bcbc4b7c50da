"""Measures of selections: one small file each, by name. Each says what it rewards, and how it can be gamed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.agreement import AGREEMENT, agreement_of
from selectllm.evaluation.measures.auc import AUC
from selectllm.evaluation.measures.cluster_entropy import CLUSTER_ENTROPY, cluster_rows
from selectllm.evaluation.measures.cost import COST, cost_of
from selectllm.evaluation.measures.coverage_proxy import COVERAGE_PROXY
from selectllm.evaluation.measures.distinct import DISTINCT
from selectllm.evaluation.measures.facility_location import FACILITY_LOCATION
from selectllm.evaluation.measures.k_center import K_CENTER
from selectllm.evaluation.measures.length import LENGTH
from selectllm.evaluation.measures.measure import About, Better, Measure, Missing, Values
from selectllm.evaluation.measures.near_duplicates import NEAR_DUPLICATES
from selectllm.evaluation.measures.novelsum import NOVELSUM
from selectllm.evaluation.measures.overlap import OVERLAP, overlap_of
from selectllm.evaluation.measures.recall import RECALL, labels_of
from selectllm.evaluation.measures.vendi import VENDI

__all__ = [
    "COST",
    "MEASURES",
    "OTHERS",
    "About",
    "Better",
    "Measure",
    "Missing",
    "Value",
    "Values",
    "agreement_of",
    "as_values",
    "cluster_rows",
    "cost_of",
    "labels_of",
    "measure_all",
    "measure_one",
    "overlap_of",
]

_OF_SELECTIONS: Final = (
    *(FACILITY_LOCATION, K_CENTER, COVERAGE_PROXY, CLUSTER_ENTROPY),
    *(VENDI, NOVELSUM, DISTINCT, NEAR_DUPLICATES, LENGTH, RECALL, AUC),
)

MEASURES: Final = {measure.name: measure for measure in _OF_SELECTIONS}
"""The measures of one selection by name: those of cover first, then diversity, length, and labels."""

OTHERS: Final = {about.name: about for about in (OVERLAP, AGREEMENT, COST)}
"""The measures of two selections, and of what one took: see `overlap_of`, `agreement_of` and `cost_of`."""


@dataclass(frozen=True)
class Value:
    """A value of a measure: `name` is one of `about.values`. Where `value` is None, `reason` says why."""

    about: About
    name: str
    value: float | None
    reason: str | None = None


def measure_all(measured: Measured, names: Iterable[str] = tuple(MEASURES)) -> list[Value]:
    """All values of the measures of these names, in their order.

    Equal arguments give equal values, but for the last digits: these depend on the machine.
    """
    return [value for name in names for value in measure_one(MEASURES[name], measured)]


def measure_one(measure: Measure, measured: Measured) -> list[Value]:
    """The values of one measure; all None where what it needs is not there."""
    lacking = [need for need in measure.needs if getattr(measured, need) is None]
    if lacking:
        return as_values(measure, dict.fromkeys(measure.values, Missing(f"there are no {' and no '.join(lacking)}")))
    return as_values(measure, measure.compute(measured))


def as_values(about: About, values: Values) -> list[Value]:
    """What a function of a measure returned, as a list in the order of `about.values`."""
    found = ((name, values[name]) for name in about.values)
    return [
        Value(about, name, None, value.reason) if isinstance(value, Missing) else Value(about, name, value)
        for name, value in found
    ]
