"""What a pool must hold to, over all its rows before any is left out.

A row that breaks a warning is quarantined, with the rule's reason. A critical rule is about the table as a whole.
"""

from dataclasses import replace
from typing import Final

from selectllm.pool.rows import RULES
from selectllm.quality.rules import Rule, allow, between, forbid, share, unique
from selectllm.quality.text_facts import MIN_LETTERS

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

ALL_ROWS: Final[tuple[Rule, ...]] = (
    *(forbid(rule, "broken", rule, severity="warning") for rule in RULES),
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
