"""What expectations come to in numpy, by their type as Great Expectations names it."""

from collections.abc import Callable, Mapping
from math import inf, nan
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[Any]
Facts: TypeAlias = Mapping[str, Values]
Mask: TypeAlias = npt.NDArray[np.bool_]


def repeats(*columns: Values) -> Mask:
    """Which rows have the same values in the columns as an earlier row."""
    seen: set[tuple[Any, ...]] = set()
    is_repeat = np.zeros(len(columns[0]), dtype=bool)
    for place, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        is_repeat[place] = values in seen
        seen.add(values)
    return is_repeat


def _outside(facts: Facts, arguments: Mapping[str, Any]) -> Mask:
    values = facts[arguments["column"]]
    outside: Mask = (values < arguments.get("min_value", -inf)) | (values > arguments["max_value"])
    return outside


def _unequal(facts: Facts, arguments: Mapping[str, Any]) -> Mask:
    unequal: Mask = facts[arguments["column_A"]] != facts[arguments["column_B"]]
    return unequal


def _bounded(observed: float, arguments: Mapping[str, Any]) -> tuple[float, bool]:
    high = arguments["max_value"]
    return observed, observed < high if arguments.get("strict_max") else observed <= high


def _mean(facts: Facts, arguments: Mapping[str, Any]) -> tuple[float, bool]:
    values = facts[arguments["column"]]
    return _bounded(float(values.sum() / len(values)) if len(values) else nan, arguments)


def _sum(facts: Facts, arguments: Mapping[str, Any]) -> tuple[float, bool]:
    return _bounded(float(facts[arguments["column"]].sum()), arguments)


def _rows(facts: Facts, arguments: Mapping[str, Any]) -> tuple[float, bool]:
    rows = len(next(iter(facts.values())))
    return float(rows), rows == arguments["value"]


FAILING_ROWS: Final[Mapping[str, Callable[[Facts, Mapping[str, Any]], Mask]]] = {
    "expect_column_values_to_be_in_set": lambda facts, to: facts[to["column"]] != to["value_set"][0],
    "expect_column_values_to_not_be_in_set": lambda facts, to: facts[to["column"]] == to["value_set"][0],
    "expect_column_values_to_be_between": _outside,
    "expect_column_values_to_be_unique": lambda facts, to: repeats(facts[to["column"]]),
    "expect_compound_columns_to_be_unique": lambda facts, to: repeats(*(facts[name] for name in to["column_list"])),
    "expect_column_pair_values_to_be_equal": _unequal,
}
"""Which rows break an expectation, by its type, out of facts and arguments."""

OBSERVED: Final[Mapping[str, Callable[[Facts, Mapping[str, Any]], tuple[float, bool]]]] = {
    "expect_column_mean_to_be_between": _mean,
    "expect_column_sum_to_be_between": _sum,
    "expect_table_row_count_to_equal": _rows,
}
"""What number an expectation about the whole table observes, and whether it holds."""
