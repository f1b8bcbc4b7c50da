"""What a pool must hold to, before any row is left out: the cheap form of the rules decides the quarantine.

A row that breaks a warning is quarantined, with the rule's reason. A critical rule is about the table as a whole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.pool import ParsedPool
from selectllm.pool.rows import PRESENT, RULES
from selectllm.quality.engine import validate_tables
from selectllm.quality.own_expectations import Suite, check_own
from selectllm.quality.rules import (
    FactTable,
    Rule,
    RuleResult,
    Values,
    allow,
    between,
    named_columns,
    repeats,
    share,
    unique,
)
from selectllm.quality.text_facts import MIN_LETTERS, text_facts
from selectllm.quality.verdicts import Finding, Verdict

CODE_VERSION: Final = 1
"""Raise it when the same pool is to lose other rows, or to be refused for something else."""

LONGEST: Final = 100_000
"""Characters of an instruction or an input, some 25,000 tokens: what is longer is a book, or a quote never closed."""

MOST_DAMAGED: Final = 0.1
"""Share of characters that may stand for lost ones: beyond, many words can only be guessed."""

MOST_UNASSIGNED: Final = 0.5
"""Share of characters that may mean nothing in Unicode: fonts of their own, and text of no encoding."""

MOST_REPEATS: Final = 0.5
"""Share of rows that may repeat an earlier one: beyond, it is the wrong column, or a file put together wrongly."""

MOST_NEAR_EMPTY: Final = 0.5
"""Share of rows that may say next to nothing: beyond, it is the wrong column."""

_NOT_IN_SET: Final = "expect_column_values_to_not_be_in_set"
ALL_ROWS: Final[tuple[Rule, ...]] = (
    *(Rule(rule, _NOT_IN_SET, {"column": "broken", "value_set": [rule]}, "warning") for rule in RULES),
    share("usable_rows", "unusable", 1, strict=True),
    share("repeats_share", "repeat", MOST_REPEATS),
    share("near_empty_share", "near_empty", MOST_NEAR_EMPTY),
)
"""Rules over every row. Those about single rows are the parser's, which has found the reasons already."""

UNIQUE_ID: Final = unique("unique_id", "id", severity="warning")
"""It has no reason: repeats are left out as such."""

_TOO_LONG: Final = f"is longer than {LONGEST:,} characters"
_DAMAGED: Final = f"is damaged: over {MOST_DAMAGED:.0%} of it are lost or misread characters"
_MEANINGLESS: Final = f"over {MOST_UNASSIGNED:.0%} of it are characters that mean nothing in Unicode"
_TEXTS: Final = (
    between("instruction_length", "instruction_characters", low=1, high=LONGEST, reason=f"the instruction {_TOO_LONG}"),
    between("input_length", "input_characters", high=LONGEST, reason=f"the input {_TOO_LONG}"),
    allow("not_near_empty", "letters", True, reason=f"has fewer than {MIN_LETTERS} letters or digits"),
    allow("no_controls", "controls", False, reason="holds control characters"),
    between("not_damaged", "damaged", high=MOST_DAMAGED, reason=_DAMAGED),
    between("assigned_characters", "unassigned", high=MOST_UNASSIGNED, reason=_MEANINGLESS),
)
USABLE_ROWS: Final[tuple[Rule, ...]] = (*(replace(rule, severity="warning") for rule in _TEXTS), UNIQUE_ID)
"""Rules over the rows whose texts can be checked."""


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
    usable = FactTable("row", _usable_facts(parsed), USABLE_ROWS if len(parsed.rows) else ())
    own = check_own(parsed, suite) if suite and len(parsed.rows) else []
    reasons = _reasons([*usable.check(), *own])
    rows = FactTable("row", _all_facts(usable.facts, parsed.broken_rules, reasons), ALL_ROWS)
    fails = any(result.finding.is_failure for result in (*rows.check(), *own))
    return PoolCheck(reasons, fails, (columns, rows, usable), tuple(result.finding for result in own))


def validate_pool(check: PoolCheck) -> Verdict:
    """Validate by Great Expectations what `check_pool` checked; raises ContractError where the two disagree."""
    return Verdict.of("pool", [*validate_tables("pool", check.tables).findings, *check.own])


def _usable_facts(parsed: ParsedPool) -> dict[str, Values]:
    """The facts about each row whose texts can be used; instead of its id, the place of the first row with the same."""
    parts = [_part_facts(table) for table in parsed.parts]
    facts = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {"row": parsed.rows, "id": parsed.firsts, **facts}


def _part_facts(table: pa.Table) -> dict[str, Values]:
    """The facts about texts, of instruction and input what is worse."""
    input_facts = text_facts(table["input"])
    return {
        "instruction_characters": pc.utf8_length(table["instruction"]).to_numpy(),
        "input_characters": pc.fill_null(pc.utf8_length(table["input"]), 0).to_numpy(),
        **{name: np.maximum(values, input_facts[name]) for name, values in text_facts(table["instruction"]).items()},
    }


def _all_facts(facts: Mapping[str, Values], broken: Mapping[int, str], quarantined: Iterable[int]) -> dict[str, Values]:
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
    for rule, finding, failing in results:
        if failing is not None and rule.reason and rule.severity == "warning" and not finding.success:
            for row in failing.tolist():
                reasons[row] = f"{reasons[row]}; {rule.reason}" if row in reasons else rule.reason
    return reasons
