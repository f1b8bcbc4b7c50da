"""What a pool must hold to, judged over all its rows before any is left out.

A row that breaks a warning is quarantined, with the rule's reason. A critical rule is about the table as a whole.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import UsageError
from selectllm.pool.judging import Judged, Understood
from selectllm.pool.records import values
from selectllm.pool.rows import PRESENT, RULES
from selectllm.quality.columns import judge_named
from selectllm.quality.engine import CannotBeJudged, Found, Rule, judge
from selectllm.quality.own_expectations import Suite
from selectllm.quality.text_facts import MIN_LETTERS, damaged, has_controls, has_letters, unassigned
from selectllm.quality.verdicts import Verdict

CODE_VERSION: Final = 1
"""Raise it when the same pool is to lose other rows, or to be refused for something else."""

LONGEST: Final = 100_000
"""Characters of an instruction or an input, some 25,000 tokens: what is longer is no task to annotate but a book, or a
file whose quotes were never closed."""

MOST_DAMAGED: Final = 0.1
"""Share of characters that may stand for lost ones: beyond, many words can only be guessed."""

MOST_UNASSIGNED: Final = 0.5
"""Share of characters that may mean nothing in Unicode: fonts of their own, and text of no encoding."""

MOST_REPEATS: Final = 0.5
"""Share of rows that may repeat an earlier one: beyond, it is the wrong column, or a file put together wrongly."""

MOST_NEAR_EMPTY: Final = 0.5
"""Share of rows that may say next to nothing: beyond, it is the wrong column."""


_BETWEEN: Final = "expect_column_values_to_be_between"
_IN_SET: Final = "expect_column_values_to_be_in_set"


def _row_rule(name: str, expectation: str, reason: str, **arguments: object) -> Rule:
    return Rule(name, expectation, arguments, "warning", reason=reason)


def _share_rule(name: str, column: str, **arguments: object) -> Rule:
    return Rule(name, "expect_column_mean_to_be_between", {"column": column, **arguments}, "critical", where=column)


ALL_ROWS: Final = (
    *(
        _row_rule(rule, "expect_column_values_to_not_be_in_set", "", column="broken", value_set=[rule])
        for rule in RULES
    ),
    _share_rule("usable_rows", "unusable", max_value=1, strict_max=True),
    _share_rule("repeats_share", "repeat", max_value=MOST_REPEATS),
    _share_rule("near_empty_share", "near_empty", max_value=MOST_NEAR_EMPTY),
)
"""Rules over every row. Those about single rows are what the reader found, and it has given the reasons already."""

USABLE_ROWS: Final = (
    _row_rule(
        "instruction_length",
        _BETWEEN,
        f"the instruction is longer than {LONGEST:,} characters",
        column="instruction_characters",
        min_value=1,
        max_value=LONGEST,
    ),
    _row_rule(
        "input_length",
        _BETWEEN,
        f"the input is longer than {LONGEST:,} characters",
        column="input_characters",
        max_value=LONGEST,
    ),
    _row_rule(
        "not_near_empty", _IN_SET, f"has fewer than {MIN_LETTERS} letters or digits", column="letters", value_set=[True]
    ),
    _row_rule("no_controls", _IN_SET, "holds control characters", column="controls", value_set=[False]),
    _row_rule(
        "not_damaged",
        _BETWEEN,
        f"is damaged: over {MOST_DAMAGED:.0%} of it are lost or misread characters",
        column="damaged",
        max_value=MOST_DAMAGED,
    ),
    _row_rule(
        "assigned_characters",
        _BETWEEN,
        f"over {MOST_UNASSIGNED:.0%} of it are characters that mean nothing in Unicode",
        column="unassigned",
        max_value=MOST_UNASSIGNED,
    ),
    _row_rule("unique_id", "expect_column_values_to_be_unique", "", column="id"),
)
"""Rules over the rows whose texts can be looked at. Repeats are left out as such, and so have no reason here."""


def judge_pool(pool: Understood, suite: Suite | None = None) -> Judged:
    """Judge the rows of a pool, and by a user's suite those whose texts can be used; for `pool.read(judge=...)`.

    Without the columns that texts come from nothing else is judged, and rows' rules are where there are texts.
    Raises UsageError where the suite does not fit the pool; failing critical rules are for Verdict.require to raise.
    """
    columns = judge_named(dict.fromkeys(pool.missing, False) or {"instruction": True})
    if not columns.finding.success:
        return Judged(Verdict.of("pool", [columns.finding]), {})
    table = pool.table()
    usable = _usable_rows(table)
    texts = judge(usable, "row", USABLE_ROWS) if len(usable) else []
    own = _by_suite(table, pool, suite) if suite and len(usable) else []
    reasons = _reasons([*texts, *own])
    found = [columns, *judge(_all_rows(pool, usable, reasons), "row", ALL_ROWS), *texts, *own]
    return Judged(Verdict.of("pool", [one.finding for one in found]), reasons)


def _usable_rows(table: pa.Table) -> pd.DataFrame:
    """The facts about each row whose texts can be used; of instruction and input, what is worse."""
    asked, given = table["instruction"], table["input"]
    return pd.DataFrame(
        {
            "row": table["row"].to_numpy(),
            "id": table["id"].to_numpy(),
            "instruction_characters": pc.utf8_length(asked).to_numpy(),
            "input_characters": pc.fill_null(pc.utf8_length(given), 0).to_numpy(),
            "letters": has_letters(asked) | has_letters(given),
            "controls": has_controls(asked) | has_controls(given),
            "damaged": np.maximum(damaged(asked), damaged(given)),
            "unassigned": np.maximum(unassigned(asked), unassigned(given)),
        }
    )


def _all_rows(pool: Understood, usable: pd.DataFrame, quarantined: Collection[int]) -> pd.DataFrame:
    """The facts about each row of the file, in its order; what is quarantined for its texts is as good as unusable."""
    told = pd.DataFrame(
        {
            "row": usable["row"],
            "broken": None,
            "unusable": usable["row"].isin(quarantined).astype(float),
            "repeat": usable["id"].duplicated().astype(float),
            "near_empty": (~usable["letters"]).astype(float),
        }
    )
    rest = pd.DataFrame({"row": pool.broken.keys(), "broken": pool.broken.values(), "unusable": 1.0, "repeat": 0.0})
    rest["near_empty"] = (rest["broken"] == PRESENT).astype(float)
    return pd.concat([told, rest]).sort_values("row", ignore_index=True) if len(rest) else told


def _by_suite(table: pa.Table, pool: Understood, suite: Suite) -> list[Found]:
    columns = dict(zip(table.column_names, table.columns, strict=True)) | pool.carried()
    suite.check_columns(columns)
    frame = pd.DataFrame({name: _series(column) for name, column in columns.items()})
    try:
        return judge(frame, "row", suite.rules)
    except CannotBeJudged as error:
        raise UsageError(f"{suite.path}: {error}. Mend the expectation") from error


def _series(column: pa.Array | pa.ChunkedArray) -> "pd.Series[Any]":
    try:
        series: pd.Series[Any] = column.to_pandas(use_threads=False)
    except (pa.ArrowException, ValueError, OverflowError):  # what pandas cannot hold
        series = pd.Series(values(pa.chunked_array(column)), dtype=object)
    return series


def _reasons(found: Sequence[Found]) -> dict[int, str]:
    """Why rows are to be quarantined: every warning that a row breaks, in the order of the rules."""
    reasons: dict[int, str] = {}
    for one in found:
        if one.finding.success or one.failing is None or one.rule.severity != "warning" or not one.rule.reason:
            continue
        for row in one.failing.tolist():
            reasons[row] = f"{reasons[row]}; {one.rule.reason}" if row in reasons else one.rule.reason
    return reasons
