"""Chosen against left out: how many rows of each group were chosen, and how many an even draw would have taken."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as kinds

from selectllm.report.page.pool_facts import is_in
from selectllm.report.page.source import RunSource
from selectllm.report.page.texts import labels
from selectllm.schemas import POOL

MOST_VALUES: Final = 20
"""Different values of a carried column that divide the pool into groups; a column of more is not shown."""

MOST_COLUMNS: Final = 6
"""Carried columns that are shown."""

MOST_CLUSTERS: Final = 60
"""Clusters that are shown, the largest first."""


@dataclass(frozen=True)
class Group:
    """Rows that have something in common: how many there are in the pool, and how many of them were chosen."""

    label: str
    rows: int
    chosen: int


@dataclass(frozen=True)
class Division:
    """The pool divided into groups by something; `left` are further groups that are not among them."""

    by: str
    groups: tuple[Group, ...]
    left: int = 0

    @property
    def share(self) -> float:
        """The share of all rows that was chosen: an even draw takes it of each group."""
        return sum(group.chosen for group in self.groups) / max(sum(group.rows for group in self.groups), 1)


def by_cluster(source: RunSource, chosen: pa.Array) -> Division | None:
    """The pool by the clusters that its queries were built of; None where no cluster has a place in each query."""
    composition = (source.summary.get("queries") or {}).get("composition")
    if composition not in ("matched", "paper") or not source.has("queries", "id", "position"):
        return None
    batches = source.batches("queries", "id", "position")
    counts = _count((batch["position"].to_pylist(), is_in(batch["id"], chosen)) for batch in batches)
    ordered = sorted(counts, key=lambda position: (-counts[position].total(), position))
    shown = sorted(ordered[:MOST_CLUSTERS])
    groups = tuple(_group(f"cluster {position + 1}", counts[position]) for position in shown)
    return Division("cluster", groups, len(ordered) - len(shown))


def by_columns(source: RunSource, chosen: npt.NDArray[np.bool_]) -> list[Division]:
    """The pool by each carried column of few values; `chosen` says of each row of the pool whether it was."""
    names = [name for name, field in source.columns("pool").items() if name not in POOL.names and _may_divide(field)]
    divisions = (_by_column(source, name, chosen) for name in names)
    return [division for division in divisions if division][:MOST_COLUMNS]


def _may_divide(field: pa.Field) -> bool:
    type_ = field.type
    return bool(
        kinds.is_string(type_) or kinds.is_boolean(type_) or kinds.is_integer(type_) or kinds.is_dictionary(type_)
    )


def _by_column(source: RunSource, name: str, chosen: npt.NDArray[np.bool_]) -> Division | None:
    counts: dict[Any, Counter[bool]] = {}
    start = 0
    for batch in source.batches("pool", name):
        part = _count([(batch[name].to_pylist(), chosen[start : start + len(batch)])])
        for value, count in part.items():
            counts.setdefault(value, Counter()).update(count)
        start += len(batch)
        if len(counts) > MOST_VALUES:
            return None
    if len(counts) < 2:
        return None
    ordered = sorted(counts, key=lambda value: (-counts[value].total(), str(value)))
    names = zip(labels(ordered), ordered, strict=True)
    return Division(name, tuple(_group(text, counts[value]) for text, value in names))


def _count(parts: Iterable[tuple[list[Any], npt.NDArray[np.bool_]]]) -> dict[Any, Counter[bool]]:
    counts: dict[Any, Counter[bool]] = {}
    for values, marks in parts:
        for (value, is_chosen), count in Counter(zip(values, marks.tolist(), strict=True)).items():
            counts.setdefault(value, Counter())[is_chosen] += count
    return counts


def _group(name: str, count: Counter[bool]) -> Group:
    return Group(name, count.total(), count[True])
