"""A pool held to its rules: at once by their cheap form, which decides the quarantine, later by Great Expectations."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.pool import ParsedPool
from selectllm.pool.rows import PRESENT
from selectllm.quality.columns import named_columns
from selectllm.quality.engine import validate
from selectllm.quality.numpy_forms import Values, repeats
from selectllm.quality.own_expectations import Suite
from selectllm.quality.own_rules import check_own
from selectllm.quality.pool_rules import ALL_ROWS, USABLE_ROWS
from selectllm.quality.rules import FactTable, RuleResult
from selectllm.quality.text_facts import damaged, has_controls, has_letters, unassigned
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
    usable = FactTable("row", _text_facts(parsed.table), USABLE_ROWS if len(parsed.table) else ())
    texts = usable.check()
    own = check_own(parsed, suite) if suite and len(parsed.table) else []
    reasons = _reasons([*texts, *own])
    rows = _all_rows(parsed, usable, reasons)
    fails = any(result.finding.is_failure for result in (*rows.check(), *own))
    return PoolCheck(reasons, fails, (columns, rows, usable), tuple(result.finding for result in own))


def validate_pool(check: PoolCheck) -> Verdict:
    """Validate by Great Expectations what `check_pool` checked; it is safe beside other threads.

    Failing critical rules are for Verdict.require to raise. Raises ContractError where the two disagree.
    """
    findings = [finding for table in check.tables if table.rules for finding in validate(table)]
    return Verdict.of("pool", [*findings, *check.own])


def _text_facts(table: pa.Table) -> dict[str, Values]:
    """The facts about each row whose texts can be used; of instruction and input, what is worse."""
    instruction, input_ = table["instruction"], table["input"]
    return {
        "row": table["row"].to_numpy(),
        "id": table["id"].to_numpy(),
        "instruction_characters": pc.utf8_length(instruction).to_numpy(),
        "input_characters": pc.fill_null(pc.utf8_length(input_), 0).to_numpy(),
        "letters": has_letters(instruction) | has_letters(input_),
        "controls": has_controls(instruction) | has_controls(input_),
        "damaged": np.maximum(damaged(instruction), damaged(input_)),
        "unassigned": np.maximum(unassigned(instruction), unassigned(input_)),
    }


def _all_rows(parsed: ParsedPool, usable: FactTable, quarantined: Collection[int]) -> FactTable:
    """The facts about each row of the file, in its order; a row quarantined for its texts is as good as unusable."""
    facts, broken = usable.facts, parsed.broken_rules
    rows = np.concatenate([facts["row"], np.fromiter(broken.keys(), np.int64, len(broken))])
    rules = np.array([""] * len(facts["row"]) + list(broken.values()), dtype=object)
    is_broken = rules != ""
    is_repeat, is_near_empty = np.zeros(len(rows), dtype=bool), rules == PRESENT
    is_repeat[~is_broken], is_near_empty[~is_broken] = repeats(facts["id"]), ~facts["letters"]
    order = np.argsort(rows, kind="stable")
    columns = {
        "row": rows,
        "broken": rules,
        "unusable": (is_broken | np.isin(rows, list(quarantined))).astype(float),
        "repeat": is_repeat.astype(float),
        "near_empty": is_near_empty.astype(float),
    }
    return FactTable("row", {name: column[order] for name, column in columns.items()}, ALL_ROWS)


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
