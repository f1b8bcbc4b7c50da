"""A pool held to its rules: at once by their cheap form, which decides the quarantine, later by Great Expectations."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.pool import ParsedPool
from selectllm.pool.rows import PRESENT
from selectllm.quality.engine import validate_tables
from selectllm.quality.own_expectations import Suite, check_own
from selectllm.quality.pool_rules import ALL_ROWS, USABLE_ROWS
from selectllm.quality.rules import FactTable, RuleResult, Values, named_columns, repeats
from selectllm.quality.text_facts import text_facts
from selectllm.quality.verdicts import Finding, Verdict


@dataclass(frozen=True)
class PoolCheck:
    """What the cheap check of a pool found.

    `reasons` says by row number why rows are to be quarantined; `fails` whether the pool breaks a critical rule, so
    that its validation will fail as well. `tables` are the facts for that validation, `own` the findings of a user's
    suite, which is validated already.
    """

    reasons: Mapping[int, str]
    fails: bool
    tables: tuple[FactTable, ...] = field(repr=False)
    own: tuple[Finding, ...] = ()


def check_pool(parsed: ParsedPool, suite: Suite | None = None) -> PoolCheck:
    """Check the rows of a pool, and by a user's suite those whose texts can be used.

    Great Expectations is imported for a suite alone. Without the columns that texts come from nothing else is checked.
    Raises UsageError where the suite does not fit the pool.
    """
    columns = named_columns(dict.fromkeys(parsed.missing, False) or {"instruction": True})
    if parsed.missing:
        return PoolCheck({}, fails=True, tables=(columns,))
    usable = FactTable("row", _usable_facts(parsed.table), USABLE_ROWS if len(parsed.table) else ())
    own = check_own(parsed, suite) if suite and len(parsed.table) else []
    reasons = _reasons([*usable.check(), *own])
    rows = FactTable("row", _all_facts(usable.facts, parsed.broken_rules, reasons), ALL_ROWS)
    fails = any(result.finding.is_failure for result in (*rows.check(), *own))
    return PoolCheck(reasons, fails, (columns, rows, usable), tuple(result.finding for result in own))


def validate_pool(check: PoolCheck) -> Verdict:
    """Validate by Great Expectations what `check_pool` checked; it is safe beside other threads.

    Failing critical rules are for Verdict.require to raise. Raises ContractError where the two disagree.
    """
    return Verdict.of("pool", [*validate_tables("pool", check.tables).findings, *check.own])


def _usable_facts(table: pa.Table) -> dict[str, Values]:
    """The facts about each row whose texts can be used; of instruction and input, what is worse."""
    input_facts = text_facts(table["input"])
    return {
        "row": table["row"].to_numpy(),
        "id": table["id"].to_numpy(),
        "instruction_characters": pc.utf8_length(table["instruction"]).to_numpy(),
        "input_characters": pc.fill_null(pc.utf8_length(table["input"]), 0).to_numpy(),
        **{name: np.maximum(values, input_facts[name]) for name, values in text_facts(table["instruction"]).items()},
    }


def _all_facts(
    facts: Mapping[str, Values], broken: Mapping[int, str], quarantined: Collection[int]
) -> dict[str, Values]:
    """The facts about each row of the file, in its order; a row quarantined for its texts is as good as unusable."""
    rows = np.concatenate([facts["row"], np.fromiter(broken, np.int64, len(broken))])
    broken_rules = np.array(list(broken.values()), dtype=object)
    rules = np.concatenate([np.full(len(facts["row"]), "", dtype=object), broken_rules])
    columns = {
        "row": rows,
        "broken": rules,
        "unusable": ((rules != "") | np.isin(rows, list(quarantined))).astype(float),
        "repeat": np.concatenate([repeats(facts["id"]), np.zeros(len(broken))]),
        "near_empty": np.concatenate([~facts["letters"], broken_rules == PRESENT]).astype(float),
    }
    order = np.argsort(rows)
    return {name: column[order] for name, column in columns.items()}


def _reasons(results: Iterable[RuleResult]) -> dict[int, str]:
    """Why rows are to be quarantined: every warning that a row breaks, in the order of the rules."""
    reasons: dict[int, str] = {}
    for result in results:
        rule, failing = result.rule, result.failing
        if result.finding.success or failing is None or rule.severity != "warning" or not rule.reason:
            continue
        for row in failing.tolist():
            reasons[row] = f"{reasons[row]}; {rule.reason}" if row in reasons else rule.reason
    return reasons
