"""A rule about a table of facts: declared once, with a form in numpy, which is cheap, and one for Great Expectations.

The two forms share the rule's columns and bounds. `numpy_forms` has the first form of the types of expectation that our
rules are of; a rule of another type, as users write them, has only the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from selectllm.quality.gx import module
from selectllm.quality.numpy_forms import FAILING_ROWS, OBSERVED, Facts, Mask, Values
from selectllm.quality.verdicts import FIRST, Finding, Key, Severity
from selectllm.text import one_line


@dataclass(frozen=True)
class Rule:
    """One expectation about a table of facts.

    Parameters: `name`, ours; `type` and `arguments`, the expectation as Great Expectations knows it; `severity`;
    `reason`, what is wrong with a row that breaks it, for its quarantine or an error; `counted`, for a rule about the
    whole table, a column that is true of the rows that count.
    """

    name: str
    type: str
    arguments: Mapping[str, Any]
    severity: Severity = "critical"
    reason: str = ""
    counted: str | None = None

    def expectation(self, place: int = 0) -> Any:
        """The rule for Great Expectations, with its place in a suite.

        Raises what Great Expectations does for a type or arguments that it does not know.
        """
        configuration = module("expectations.expectation_configuration").ExpectationConfiguration
        named = {"type": self.type, "kwargs": dict(self.arguments), "severity": self.severity}
        return configuration(**named, meta={"place": place}).to_domain_obj()

    def failing(self, facts: Facts) -> Mask | None:
        """Which rows break the rule; None for a rule about the whole table."""
        return FAILING_ROWS[self.type](facts, self.arguments) if self.type in FAILING_ROWS else None

    def check(self, facts: Facts, key: Key) -> "RuleResult":
        """Hold facts to the rule by its form in numpy; the column `key` names the rows."""
        keys = facts[key]
        mask = self.failing(facts)
        if mask is not None:
            return self.row_result(key, len(keys), not mask.any(), keys[mask])
        observed, success = OBSERVED[self.type](facts, self.arguments)
        counted = keys[facts[self.counted].astype(bool)] if self.counted else None
        return self.table_result(key, len(keys), success, observed, counted)

    def row_result(self, key: Key, rows: int, success: bool, failing: Values) -> "RuleResult":
        """The result for a table of so many rows, of which those with the keys `failing` break the rule."""
        observed = len(failing) / rows if rows else None
        return RuleResult(self, self._finding(key, rows, success, failing, about="rows", observed=observed), failing)

    def table_result(
        self, key: Key, rows: int, success: bool, observed: float | None, counted: Values | None
    ) -> "RuleResult":
        """The result for a table of so many rows: the number `observed`, and the keys of the rows that count for it."""
        observed = observed if observed is not None and isfinite(observed) else None
        named = np.array([]) if counted is None else counted
        return RuleResult(self, self._finding(key, rows, success, named, about="table", observed=observed), None)

    def _finding(self, key: Key, rows: int, success: bool, named: Values, **more: Any) -> Finding:
        return Finding(
            rule=self.name,
            success=success,
            severity=self.severity,
            count=len(named),
            rows=rows,
            key=key,
            first=tuple(map(_key, named[:FIRST])),
            expectation=self.type,
            arguments=dict(self.arguments),
            **more,
        )


@dataclass(frozen=True)
class RuleResult:
    """A finding, and the keys of all rows that break the rule in the table's order; None for a rule about no rows."""

    rule: Rule
    finding: Finding
    failing: Values | None = field(repr=False)


@dataclass(frozen=True)
class FactTable:
    """Facts in columns of the same length, of which the column `key` names the rows, and the rules for them."""

    key: Key
    facts: Facts = field(repr=False)
    rules: tuple[Rule, ...]

    def check(self) -> list[RuleResult]:
        """Hold the facts to each rule by its form in numpy."""
        return [rule.check(self.facts, self.key) for rule in self.rules]


def allow(name: str, column: str, value: object, **more: Any) -> Rule:
    """Every value of a column is this one."""
    return Rule(name, "expect_column_values_to_be_in_set", {"column": column, "value_set": [value]}, **more)


def forbid(name: str, column: str, value: object, **more: Any) -> Rule:
    """No value of a column is this one."""
    return Rule(name, "expect_column_values_to_not_be_in_set", {"column": column, "value_set": [value]}, **more)


def between(name: str, column: str, *, low: float | None = None, high: float, **more: Any) -> Rule:
    """Every value of a column lies between two bounds, or on one of them; NaN does too, as it counts as missing."""
    bounds = {"max_value": high} if low is None else {"min_value": low, "max_value": high}
    return Rule(name, "expect_column_values_to_be_between", {"column": column, **bounds}, **more)


def unique(name: str, *columns: str, **more: Any) -> Rule:
    """No row has the same values in the columns as an earlier row."""
    if len(columns) == 1:
        return Rule(name, "expect_column_values_to_be_unique", {"column": columns[0]}, **more)
    return Rule(name, "expect_compound_columns_to_be_unique", {"column_list": list(columns)}, **more)


def equal(name: str, column: str, other: str, **more: Any) -> Rule:
    """Two columns have the same value in every row."""
    return Rule(name, "expect_column_pair_values_to_be_equal", {"column_A": column, "column_B": other}, **more)


def share(name: str, column: str, high: float, *, strict: bool = False) -> Rule:
    """The share of rows of which a column of zeros and ones is true has an upper bound; if `strict`, lies below it."""
    bounds = {"max_value": high, "strict_max": True} if strict else {"max_value": high}
    return Rule(name, "expect_column_mean_to_be_between", {"column": column, **bounds}, counted=column)


def total(name: str, column: str, high: float) -> Rule:
    """The number of rows of which a column of zeros and ones is true has an upper bound."""
    return Rule(name, "expect_column_sum_to_be_between", {"column": column, "max_value": high}, counted=column)


def row_count(rows: int, **more: Any) -> Rule:
    """The table has so many rows."""
    return Rule("row_count", "expect_table_row_count_to_equal", {"value": rows}, **more)


def _key(value: Any) -> int | str:
    return int(value) if isinstance(value, (int, np.integer)) else one_line(value, 80)
