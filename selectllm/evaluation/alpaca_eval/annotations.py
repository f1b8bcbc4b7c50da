"""Annotations: which of two answers a judge prefers, question by question, in AlpacaEval's format or as a table.

AlpacaEval writes a preference from 1 (the baseline's answer, `output_1`) to 2 (the model's, `output_2`), 0 or 1.5 for a
draw, and null where the judge gave none. A table without answers has `preference` from 0 to 1, `len_baseline` and
`len_model` in characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.errors import UsageError
from selectllm.evaluation.alpaca_eval.files import check_columns, number_of, read_rows, text_of
from selectllm.pool.formats import shown_name
from selectllm.text import join_names

Numbers = npt.NDArray[np.float64]

WITH_ANSWERS: Final = ("output_1", "output_2", "preference")
WITH_LENGTHS: Final = ("preference", "len_baseline", "len_model")


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a judge said of one model against one baseline, on M questions.

    `preferences` (M,) are for the model, from 0 to 1, NaN where the judge gave none; `baseline_lengths` and
    `model_lengths` (M,) are in characters; `index` (M,) are the questions' numbers from 0, where the file names them.
    """

    model: str
    baseline: str
    annotator: str
    preferences: Numbers
    baseline_lengths: Numbers
    model_lengths: Numbers
    index: Numbers | None = None


def read_annotations(location: str, model: str | None = None) -> Annotations:
    """The annotations of one model in a file: JSON as AlpacaEval writes it, or any other format of a pool.

    A file about several models needs the name of one. Raises PoolError, UsageError.
    """
    rows, name = read_rows(location), shown_name(location)
    has_answers = "output_1" in rows[0]
    check_columns(rows, WITH_ANSWERS if has_answers else WITH_LENGTHS, name)
    rows = _of_model(rows, model, name)
    places = [f"annotation {number} of {name}" for number in range(1, len(rows) + 1)]
    pairs = list(zip(rows, places, strict=True))
    preferences = [preference_of(row, place, from_one=has_answers) for row, place in pairs]
    if has_answers:
        lengths = [[float(len(text_of(row, side, place))) for row, place in pairs] for side in WITH_ANSWERS[:2]]
    else:
        lengths = [[_length(row, side, place) for row, place in pairs] for side in WITH_LENGTHS[1:]]
    return Annotations(
        model=_only(rows, _model_column(rows), name, "the model"),
        baseline=_only(rows, "generator_1", name, "the baseline"),
        annotator=_only(rows, "annotator", name, "the judge"),
        preferences=np.array(preferences),
        baseline_lengths=np.array(lengths[0]),
        model_lengths=np.array(lengths[1]),
        index=_index(pairs, name) if "index" in rows[0] else None,
    )


def preference_of(row: dict[str, Any], place: str, *, from_one: bool) -> float:
    """The preference of a row from 0 to 1, NaN where there is none: on AlpacaEval's scale `from_one`, 0 is a draw.

    Raises UsageError for one beyond its scale.
    """
    value = number_of(row, "preference", place)
    if from_one:
        value = 0.5 if value == 0 else value - 1
    if value < 0 or value > 1:
        scale = "from 1 to 2, or 0 for a draw" if from_one else "from 0 to 1"
        raise UsageError(f"{place} has the preference {row['preference']!r:.40}: it should be {scale}")
    return value


def _of_model(rows: list[dict[str, Any]], model: str | None, name: str) -> list[dict[str, Any]]:
    """The rows about a model, or all where none is named."""
    if model is None:
        return rows
    column = _model_column(rows)
    found = [row for row in rows if row.get(column) == model]
    if not found:
        known = join_names(sorted({str(row.get(column)) for row in rows}))
        raise UsageError(f"{name} has no annotations of the model {model!r}. It is about: {known}")
    return found


def _model_column(rows: Sequence[dict[str, Any]]) -> str:
    return "generator_2" if "generator_2" in rows[0] else "model"


def _only(rows: Sequence[dict[str, Any]], column: str, name: str, what: str) -> str:
    """The one value of a column, as it stands in reports; raises UsageError for several."""
    found = sorted({str(row[column]) for row in rows if row.get(column) is not None})
    if len(found) > 1:
        advice = "name one with --model" if what == "the model" else "divide the file"
        raise UsageError(f"{name} names several values for {what} ({join_names(found)}): {advice}")
    return found[0] if found else what


def _length(row: dict[str, Any], column: str, place: str) -> float:
    length = number_of(row, column, place)
    if not length >= 0:
        raise UsageError(f"{place} has {row[column]!r:.40} as {column!r}, where a number of characters is needed")
    return length


def _index(pairs: list[tuple[dict[str, Any], str]], name: str) -> Numbers:
    index = np.array([number_of(row, "index", place) for row, place in pairs])
    if np.isnan(index).any() or len(np.unique(index)) < len(index):
        raise UsageError(f"{name} has questions without an 'index', or with one that another has: each needs its own")
    return index
