"""A rule about a table of facts: declared once, with a form in numpy, which is cheap, and one for Great Expectations.

The two forms share the rule's columns and bounds. The form in numpy is FAILING_ROWS or OBSERVED by the rule's type; a
rule of another type, as users write them, has only that for Great Expectations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.quality.gx import great_expectations
from selectllm.quality.verdicts import FIRST, Finding, Key, Severity
from selectllm.text import one_line

Values: TypeAlias = npt.NDArray[Any]
Facts: TypeAlias = Mapping[str, Any]


def repeats(*columns: Values) -> Values:
    """Which rows have the same values in the columns as an earlier row."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        _, own = np.unique(_codes(column), return_inverse=True)
        _, codes = np.unique(codes * (own.max(initial=0) + 1) + own, return_inverse=True)
    is_repeat = np.ones(len(codes), dtype=bool)
    is_repeat[np.unique(codes, return_index=True)[1]] = False
    return is_repeat


def _codes(column: Values) -> Values:
    """Numbers that are the same where the values are: a column of texts as such would take long to sort."""
    if column.dtype != object:
        return column
    codes: Values = pa.array(column).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return codes


FAILING_ROWS: Final[dict[str, Callable[[Facts, Mapping[str, Any]], Values]]] = {
    "expect_column_values_to_be_in_set": lambda facts, to: facts[to["column"]] != to["value_set"][0],
    "expect_column_values_to_not_be_in_set": lambda facts, to: facts[to["column"]] == to["value_set"][0],
    "expect_column_values_to_be_between": lambda facts, to: (
        (facts[to["column"]] < to.get("min_value", -inf)) | (facts[to["column"]] > to["max_value"])
    ),
    "expect_column_values_to_be_unique": lambda facts, to: repeats(facts[to["column"]]),
    "expect_compound_columns_to_be_unique": lambda facts, to: repeats(*(facts[name] for name in to["column_list"])),
    "expect_column_pair_values_to_be_equal": lambda facts, to: facts[to["column_A"]] != facts[to["column_B"]],
}
"""Which rows break an expectation, by its type, out of facts and arguments."""

OBSERVED: Final[dict[str, Callable[[Values], float]]] = {
    "expect_column_mean_to_be_between": lambda values: values.sum() / len(values) if len(values) else nan,
    "expect_column_sum_to_be_between": lambda values: values.sum(),
    "expect_table_row_count_to_equal": len,
}
"""What number an expectation about the whole table observes, by its type, out of a column."""

UNIQUE: Final = {"expect_column_values_to_be_unique": "column", "expect_compound_columns_to_be_unique": "column_list"}
"""Expectations that no row repeats another, and their argument that names the columns."""

PART_ROWS: Final = 1_000_000
"""Rows of a table whose facts are held to rules at once; of a larger one, the findings about its parts are merged."""


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
        configuration = great_expectations("expectations.expectation_configuration").ExpectationConfiguration
        named = {"type": self.type, "kwargs": dict(self.arguments), "severity": self.severity}
        return configuration(**named, meta={"place": place}).to_domain_obj()

    @property
    def columns(self) -> list[str]:
        """The columns that the rule looks at."""
        named = [self.arguments.get(name) for name in ("column", "column_A", "column_B")] + [self.counted]
        return [name for name in (*named, *self.arguments.get("column_list", ())) if name is not None]

    def check(self, table: "FactTable") -> "RuleResult":
        """Hold a table to the rule by its form in numpy."""
        to = self.arguments
        if self.type in FAILING_ROWS:
            is_failing = FAILING_ROWS[self.type](table.facts, to)
            return self.result(table, not is_failing.any(), table.keys[is_failing])
        observed = float(OBSERVED[self.type](table.facts[to.get("column", table.key)]))
        if "value" in to:
            success = observed == to["value"]
        else:
            success = observed < to["max_value"] if to.get("strict_max") else observed <= to["max_value"]
        return self.result(table, success, observed=observed)

    def result(
        self, table: "FactTable", success: bool, failing: Values | None = None, observed: float | None = None
    ) -> "RuleResult":
        """The result for a table: the keys of the rows that break the rule, or the number `observed` of it all."""
        rows, named = len(table.keys), failing
        if failing is not None:
            observed = len(failing) / rows if rows else None
        elif self.counted:
            named = table.keys[table.facts[self.counted].astype(bool)]
        named = np.array([]) if named is None else named
        finding = Finding(
            rule=self.name,
            success=success,
            severity=self.severity,
            about="table" if failing is None else "rows",
            observed=observed if observed is not None and isfinite(observed) else None,
            count=len(named),
            rows=rows,
            key=table.key,
            first=tuple(int(key) if isinstance(key, (int, np.integer)) else one_line(key, 80) for key in named[:FIRST]),
            expectation=self.type,
            arguments=dict(self.arguments),
        )
        return RuleResult(self, finding, failing)


class RuleResult(NamedTuple):
    """A finding, and the keys of all rows that break the rule in the table's order; None for a rule about no rows."""

    rule: Rule
    finding: Finding
    failing: Values | None


@dataclass(frozen=True)
class FactTable:
    """Facts in columns of the same length, of which the column `key` names the rows, and the rules for them."""

    key: Key
    facts: Facts = field(repr=False)
    rules: tuple[Rule, ...]

    @property
    def keys(self) -> Values:
        """The names of the rows."""
        return np.asarray(self.facts[self.key])

    def parts(self) -> Iterator["FactTable"]:
        """The table itself; of a large one a table for the rules that look at all rows, and parts for the others."""
        if len(self.keys) <= PART_ROWS:
            yield self
            return
        together = tuple(rule for rule in self.rules if rule.type in OBSERVED or rule.type in UNIQUE)
        columns = {self.key, *(name for rule in together for name in rule.columns)}
        yield FactTable(self.key, {name: self.facts[name] for name in columns}, together)
        others = tuple(rule for rule in self.rules if rule not in together)
        for start in range(0, len(self.keys), PART_ROWS):
            part = {name: values[start : start + PART_ROWS] for name, values in self.facts.items()}
            yield FactTable(self.key, part, others)

    def check(self) -> list[RuleResult]:
        """Hold the facts to each rule by its form in numpy."""
        return [rule.check(self) for rule in self.rules]


def allow(name: str, column: str, value: object, **more: Any) -> Rule:
    """Every value of a column is this one."""
    return Rule(name, "expect_column_values_to_be_in_set", {"column": column, "value_set": [value]}, **more)


def between(name: str, column: str, *, low: float | None = None, high: float, **more: Any) -> Rule:
    """Every value of a column lies between two bounds, or on one of them; NaN does too, as it counts as missing."""
    bounds = {"max_value": high} if low is None else {"min_value": low, "max_value": high}
    return Rule(name, "expect_column_values_to_be_between", {"column": column, **bounds}, **more)


def unique(name: str, *columns: str, **more: Any) -> Rule:
    """No row has the same values in the columns as an earlier row."""
    if len(columns) == 1:
        return Rule(name, "expect_column_values_to_be_unique", {"column": columns[0]}, **more)
    return Rule(name, "expect_compound_columns_to_be_unique", {"column_list": list(columns)}, **more)


def share(name: str, column: str, high: float, *, strict: bool = False) -> Rule:
    """The share of rows of which a column of zeros and ones is true has an upper bound; if `strict`, lies below it."""
    bounds = {"column": column, "max_value": high} | ({"strict_max": True} if strict else {})
    return Rule(name, "expect_column_mean_to_be_between", bounds, counted=column)


def row_count(rows: int, **more: Any) -> Rule:
    """The table has so many rows."""
    return Rule("row_count", "expect_table_row_count_to_equal", {"value": rows}, **more)


def named_columns(as_expected: Mapping[str, bool]) -> FactTable:
    """The facts about columns by name: without those that are as expected, nothing else can be said of a table."""
    rule = allow("columns", "as_expected", True, reason="columns are missing or not of their type")
    facts = {"column": np.array(list(as_expected), dtype=object), "as_expected": np.array(list(as_expected.values()))}
    return FactTable("column", facts, (rule,))


def table_columns(table: pa.Table, fields: Iterable[pa.Field]) -> FactTable:
    """The facts about a table's columns: each field is there once, of its type, and has nulls only where it may."""
    return named_columns(
        {
            field.name: table.column_names.count(field.name) == 1
            and table[field.name].type == field.type
            and (field.nullable or table[field.name].null_count == 0)
            for field in fields
        }
    )
