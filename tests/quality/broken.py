"""A corpus of broken pools and their expected results: files under data/broken, and larger generated files.

A case is a Case, or the words of the PoolError about a file that is no table, or has no row at all: nothing in it can
be validated.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "broken"


CRITICAL = {"columns", "usable_rows", "repeats_share", "near_empty_share"}


@dataclass(frozen=True)
class Case:
    """Rows kept, rows quarantined by reason, repeats, rules that fail by count, and how many rules there are.

    `refused` are words of the error where no row is kept.
    """

    kept: int
    reasons: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    checked: int = 16
    refused: str = ""

    @property
    def critical(self) -> list[str]:
        """The critical rules among those that fail."""
        return sorted(CRITICAL & set(self.failed))


NO_INSTRUCTION, EMPTY = "no instruction", "the instruction is empty"
NEAR_EMPTY, CONTROLS = "has fewer than 2 letters or digits", "holds control characters"
DAMAGED = "is damaged: over 10% of it are lost or misread characters"
MEANINGLESS = "over 50% of it are characters that mean nothing in Unicode"
SURROGATE = "holds a lone surrogate, which UTF-8 cannot hold"
LONG_INSTRUCTION = "the instruction is longer than 100,000 characters"
LONG_INPUT = "the input is longer than 100,000 characters"
NO_VALUE, EXTRA = "not valid JSON: Expecting value", "not valid JSON: Extra data"
NUMBER, OBJECT = "the instruction is not text but a number", "the instruction is not text but an object"
DEEP = "nested more than 64 levels deep"


def unreadable(kept: int, **reasons: int) -> Case:
    return Case(kept, reasons, failed={"row_readable": sum(reasons.values())})


def useless(rule: str, first: str, **reasons: int) -> Case:
    """A file without any readable row texts."""
    rows = sum(reasons.values())
    refused = f"has no usable row: row 1: {first}"
    return Case(0, reasons, failed={rule: rows, "usable_rows": rows}, checked=9, refused=refused)


def without_columns(rows: int, refused: str) -> Case:
    return Case(0, {"no column 'instruction'": rows}, failed={"columns": 1}, checked=1, refused=refused)


FILES: dict[str, Case | str] = {
    "absent_instructions.jsonl": Case(5, {NO_INSTRUCTION: 1}, failed={"instruction_present": 1}),
    "all_near_empty.jsonl": Case(
        0,
        {NEAR_EMPTY: 3},
        failed={"not_near_empty": 3, "near_empty_share": 3, "usable_rows": 3},
        refused=f"has no usable row: row 1: {NEAR_EMPTY}; row 2: {NEAR_EMPTY}; row 3: {NEAR_EMPTY}",
    ),
    "any_output.jsonl": Case(4),
    "bare_cr.csv": unreadable(1, **{"not valid CSV: a bare carriage return": 1}),
    "blank_lines.jsonl": "has no rows",
    "bom.jsonl": Case(2),
    "bom_crlf.csv": Case(2, {}, 1, {"unique_id": 1}),
    "bom_within.jsonl": unreadable(1, **{"not valid JSON: Unexpected UTF-8 BOM (decode using utf-8-sig)": 1}),
    "broken_lines.jsonl": unreadable(
        2,
        **{
            "not valid JSON: Unterminated string": 1,
            "not valid JSON: Expecting property name enclosed in double quotes": 2,
            "not valid JSON: Extra data": 1,
            NO_VALUE: 1,
        },
    ),
    "controls.jsonl": Case(3, {CONTROLS: 6}, failed={"no_controls": 6}),
    "cr_only.jsonl": useless("row_readable", EXTRA, **{EXTRA: 1}),
    "crlf.jsonl": Case(2),
    "empty.jsonl": "is empty",
    "empty_instructions.jsonl": Case(3, {EMPTY: 4}, failed={"instruction_present": 4, "near_empty_share": 4}),
    "empty_list.json": "has no rows",
    "endless_number.jsonl": unreadable(1, **{"not valid JSON: a number has too many digits": 1}),
    "error_page.jsonl": useless("row_readable", f"{NO_VALUE}; row 2: {NO_VALUE}", **{NO_VALUE: 5}),
    "half_repeats.jsonl": Case(2, {}, 2, {"unique_id": 2}),
    "header_only.csv": "has no rows",
    "latin1.jsonl": unreadable(1, **{"not UTF-8": 2}),
    "lone_surrogates.jsonl": Case(2, {SURROGATE: 3}, failed={"text_is_utf8": 3}),
    "many_scripts.jsonl": Case(10),
    "markup.jsonl": Case(1, {CONTROLS: 2}, failed={"no_controls": 2}),
    "merge_conflict.jsonl": unreadable(2, **{NO_VALUE: 3}),
    "messages.jsonl": Case(
        4,
        {
            "no user turn": 1,
            "no user turn: roles are system": 1,
            "the messages are not a list but text": 1,
            "no messages": 1,
            "the user turn holds no text": 1,
            "the instruction is not text but an object": 1,
            NEAR_EMPTY: 1,
        },
        failed={"instruction_present": 4, "instruction_is_text": 2, "not_near_empty": 1},
    ),
    "misread_encoding.jsonl": Case(
        4,
        {f"{CONTROLS}; {DAMAGED}": 3, DAMAGED: 1},
        failed={"no_controls": 3, "not_damaged": 4},
    ),
    "mixed.json": Case(
        2,
        {
            "not a JSON object but text": 1,
            "not a JSON object but null": 1,
            "not a JSON object but a list": 1,
            EMPTY: 1,
        },
        failed={"row_readable": 3, "instruction_present": 1},
    ),
    "mostly_near_empty.jsonl": Case(2, {NEAR_EMPTY: 3}, failed={"not_near_empty": 3, "near_empty_share": 3}),
    "mostly_repeats.jsonl": Case(2, {}, 3, {"unique_id": 3, "repeats_share": 3}),
    "nameless_column.csv": "has no name for column 2",
    "names_twice.csv": "names columns twice: input",
    "names_twice.parquet": "names columns twice: instruction",
    "nan.jsonl": Case(
        2,
        {"no instruction": 1, "the input is not text but a number": 1},
        failed={"instruction_present": 1, "input_is_text": 1},
    ),
    "near_empty.jsonl": Case(8, {NEAR_EMPTY: 7}, failed={"not_near_empty": 7}),
    "nested.jsonl": Case(
        2,
        {DEEP: 1, "the instruction is not text but an object": 1},
        failed={"row_readable": 1, "instruction_is_text": 1},
    ),
    "no_known_column.jsonl": without_columns(2, "has none of the columns instruction, prompt, messages, conversations"),
    "no_meaning.jsonl": Case(2, {MEANINGLESS: 3}, failed={"assigned_characters": 3}),
    "no_rows.parquet": "has no rows",
    "not_gzip.jsonl.gz": "is not gzip that can be unpacked",
    "not_objects.jsonl": unreadable(
        2,
        **{f"not a JSON object but {kind}": 1 for kind in ("a list", "text", "a number", "null", "a boolean")},
    ),
    "not_utf8.parquet": Case(1, {"the instruction is not UTF-8": 1}, failed={"text_is_utf8": 1}),
    "nothing.jsonl.gz": "is empty",
    "nul.csv": Case(1, {CONTROLS: 1}, failed={"no_controls": 1}),
    "nul_bytes.jsonl": unreadable(2, **{NO_VALUE: 1, "not valid JSON: Invalid control character": 1}),
    "nulls.parquet": Case(
        3, {NO_INSTRUCTION: 1, EMPTY: 1, NEAR_EMPTY: 1}, failed={"instruction_present": 2, "not_near_empty": 1}
    ),
    "numbers.parquet": useless("instruction_is_text", NUMBER, **{NUMBER: 2}),
    "object.json": "holds one JSON object where a list of objects is needed",
    "pool.xlsx": "does not end in the name of a format",
    "ragged.csv": unreadable(2, **{"2 fields where the header has 3": 1, "4 fields where the header has 3": 1}),
    "ragged.tsv": unreadable(2, **{"1 field where the header has 2": 1}),
    "repeats.jsonl": Case(5, {}, 4, {"unique_id": 4}),
    "replaced_characters.jsonl": Case(2, {DAMAGED: 2}, failed={"not_damaged": 2}),
    "scalar.json": "holds text where a list of objects is needed",
    "semicolons.csv": Case(1),
    "several_faults.jsonl": Case(2, {f"{NEAR_EMPTY}; {CONTROLS}": 1}, failed={"not_near_empty": 1, "no_controls": 1}),
    "structs.parquet": useless("instruction_is_text", OBJECT, **{OBJECT: 1}),
    "torn.json": "is not valid JSON in line 7",
    "torn.jsonl.gz": "is not gzip that can be unpacked",
    "torn.parquet": "is not a Parquet file that can be read",
    "torn_last_line.jsonl": unreadable(1, **{"not valid JSON: Unterminated string": 1}),
    "unclosed_quote.csv": unreadable(2, **{"not valid CSV: ',' expected after '\"'": 1}),
    "utf16.csv": Case(1),
    "utf16.jsonl": Case(2),
    "wrong_input_types.jsonl": Case(
        2,
        {f"the input is not text but {kind}": 1 for kind in ("a list", "a number", "an object", "a boolean")},
        failed={"input_is_text": 4},
    ),
    "wrong_types.jsonl": Case(
        2,
        {
            "the instruction is not text but a number": 2,
            "the instruction is not text but a boolean": 1,
            "the instruction is not text but a list": 1,
            "the instruction is not text but an object": 1,
        },
        failed={"instruction_is_text": 5},
    ),
}


def _lines(rows: Iterator[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _huge_rows() -> bytes:
    texts = [("a" * 100_000, None), ("b" * 100_001, None), ("c", "d" * 150_000), ("cc", "e" * 100_000)]
    return _lines({"instruction": instruction, "input": input_} for instruction, input_ in texts)


def _swallowed_csv() -> bytes:
    """A CSV file whose closing quote is at its end."""
    lines = "".join(f"Name river number {row},x\n" for row in range(9_000))
    return f'instruction,input\nName a lake.,x\n"Name a sea.\n{lines}",y\n'.encode()


def _many_faults() -> bytes:
    """Of every ten rows, one is empty, one near-empty, one a duplicate, and one contains a control character."""
    odd = {3: "", 5: "?!", 7: "Say it again.", 9: "Ring \x07."}
    return _lines({"instruction": odd.get(row % 10, f"Tell me of number {row}.")} for row in range(3_000))


def _mostly_repeats() -> bytes:
    return _lines({"instruction": f"Tell me of number {row % 979}."} for row in range(2_000))


LARGE: dict[str, tuple[Callable[[], bytes], Case | str]] = {
    "huge_rows.jsonl": (
        _huge_rows,
        Case(2, {LONG_INSTRUCTION: 1, LONG_INPUT: 1}, failed={"instruction_length": 1, "input_length": 1}),
    ),
    "swallowed.csv": (_swallowed_csv, Case(1, {LONG_INSTRUCTION: 1}, failed={"instruction_length": 1})),
    "many_faults.jsonl": (
        _many_faults,
        Case(
            1_801,
            {EMPTY: 300, NEAR_EMPTY: 300, CONTROLS: 300},
            299,
            {"instruction_present": 300, "not_near_empty": 300, "no_controls": 300, "unique_id": 897},
        ),
    ),
    "mostly_repeats.jsonl": (
        _mostly_repeats,
        Case(979, {}, 1_021, {"unique_id": 1_021, "repeats_share": 1_021}),
    ),
    "wide.jsonl": (lambda: _lines({f"k{n}": 1} for n in range(2_000)), "more than 1000 columns by row 1001"),
    "deep.jsonl": (
        lambda: b'{"instruction": "fine"}\n{"instruction": "x", "x": ' + b"[" * 99_999 + b"\n",
        unreadable(1, **{DEEP: 1}),
    ),
    "nul_megabyte.jsonl": (lambda: b"\0" * 1_000_000, useless("row_readable", NO_VALUE, **{NO_VALUE: 1})),
    "blank_megabyte.jsonl.gz": (lambda: gzip.compress(b"\n" * 1_000_000), "has no rows"),
}
