"""What AlpacaEval 2 adds to the length-controlled fit: how hard each question is, and rows that were played for length.

Both are data of AlpacaEval's, which SelectLLM does not carry: `instruction_difficulty.csv` and `df_gamed.csv` of its
data set `tatsu-lab/alpaca_eval` on the Hugging Face hub (CC BY-NC 4.0).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from selectllm.errors import UsageError
from selectllm.evaluation.alpaca_eval.annotations import Annotations, Numbers, preference_of
from selectllm.evaluation.alpaca_eval.files import check_columns, number_of, read_rows
from selectllm.pool.formats import shown_name

DIFFICULTY: Final = ("difficulty", "instruction_difficulty")
"""What the column may be called."""

INDEX: Final = ("index", "", "Unnamed: 0")
"""What the column of the question's number may be called: pandas leaves its name empty."""


@dataclass(frozen=True, eq=False)
class Regularizer:
    """Annotations of answers that were lengthened or shortened on purpose, which keep the fit from following length.

    `deltas` (R,) are the baseline's length less the answer's, in standard deviations; `preferences` (R,) from 0 to 1;
    `difficulty` (R,) of the question, None where the file has none.
    """

    deltas: Numbers
    preferences: Numbers
    difficulty: Numbers | None


def read_difficulty(location: str, annotations: Annotations) -> Numbers:
    """The difficulty (M,) of each annotation's question, from a table with `index` and `difficulty`.

    Annotations without an index are taken in the order of the table's index, and must be as many. Raises PoolError,
    UsageError.
    """
    rows, name = read_rows(location), shown_name(location)
    column, index = _named(rows, DIFFICULTY, name), _named(rows, INDEX, name)
    known: dict[float, float] = {}
    for number, row in enumerate(rows, 1):
        place = f"row {number} of {name}"
        value, question = number_of(row, column, place), number_of(row, index, place)
        if np.isnan([value, question]).any():
            raise UsageError(f"{place} has no number as {column!r} or as its index")
        if question in known:
            raise UsageError(f"{place} names the question {question:g} again: each needs one difficulty")
        known[question] = value
    if annotations.index is None:
        if len(known) != (count := len(annotations.preferences)):
            raise UsageError(
                f"{name} is about {len(known):,} questions, and there are {count:,} annotations: "
                "say by an 'index' in each annotation which question it is about, or leave --difficulty out"
            )
        return np.array([known[question] for question in sorted(known)])
    if lacking := [question for question in annotations.index if question not in known]:
        raise UsageError(f"{name} has no difficulty of the question with index {lacking[0]:g}")
    return np.array([known[question] for question in annotations.index])


def read_regularizer(location: str, *, with_difficulty: bool) -> Regularizer:
    """The regulariser's rows: a table with `std_delta_len`, `preference` from 0 to 1, and `difficulty` if it is used.

    Rows without a preference are left out. Raises PoolError, UsageError.
    """
    rows, name = read_rows(location), shown_name(location)
    check_columns(rows, ("std_delta_len", "preference"), name)
    names = ["std_delta_len", *([_named(rows, DIFFICULTY, name)] if with_difficulty else [])]
    columns: list[list[float]] = [[] for _ in names]
    preferences: list[float] = []
    for number, row in enumerate(rows, 1):
        place = f"row {number} of {name}"
        preference = preference_of(row, place, from_one=False)
        if np.isnan(preference):
            continue
        preferences.append(preference)
        for column, cells in zip(names, columns, strict=True):
            cells.append(number_of(row, column, place))
            if np.isnan(cells[-1]):
                raise UsageError(f"{place} has no number as {column!r}")
    if not preferences:
        raise UsageError(f"{name} has no row with a preference")
    return Regularizer(np.array(columns[0]), np.array(preferences), np.array(columns[1]) if with_difficulty else None)


def _named(rows: list[dict[str, Any]], names: tuple[str, ...], file: str) -> str:
    """The name that a column has; raises UsageError where there is none."""
    found = next((name for name in names if name in rows[0]), None)
    if found is None:
        raise UsageError(f"{file} has no column {names[0]!r}: it has {', '.join(map(str, rows[0]))}")
    return found
