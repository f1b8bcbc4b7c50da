"""Given preferences between two answers: people's, or those of another judge, in AlpacaEval's format."""

from dataclasses import dataclass

import numpy as np

from selectllm.errors import UsageError
from selectllm.evaluation.alpaca_eval.annotations import WITH_ANSWERS, preference_of
from selectllm.evaluation.alpaca_eval.files import check_columns, read_rows, text_of
from selectllm.evaluation.judging.agreement import Compared, Numbers
from selectllm.evaluation.judging.pairs import Pair
from selectllm.pool.formats import shown_name

Texts = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class Given:
    """Pairs of answers with a given preference for the second, from 0 to 1; several of one pair are their mean."""

    pairs: tuple[Pair, ...]
    preferences: Numbers

    def compared(self, judged: Numbers, first_shown: Numbers | None = None) -> Compared:
        """These, beside the judged preferences (M,)."""
        longer = [float(np.sign(len(pair.model) - len(pair.baseline))) for pair in self.pairs]
        shown = np.full(len(judged), np.nan) if first_shown is None else first_shown
        return Compared(self.preferences, judged, np.array(longer), shown)


def read_given(location: str) -> Given:
    """The preferences of a file with `instruction`, `output_1`, `output_2` and `preference` (1 to 2, 0 for a draw).

    An `input` belongs to its instruction. Rows without a preference are left out. Raises PoolError, UsageError.
    """
    said = _preferences(location)
    if not said:
        raise UsageError(f"{shown_name(location)} has no row with a preference")
    pairs = (Pair(number, *texts) for number, texts in enumerate(said, 1))
    return Given(tuple(pairs), np.array([float(np.mean(values)) for values in said.values()]))


def read_judged(location: str, given: Given) -> Numbers:
    """What the annotations of a judge say of the given pairs (M,), whichever answer stands first; NaN for none."""
    said = _preferences(location)
    judged = np.full(len(given.pairs), np.nan)
    for place, pair in enumerate(given.pairs):
        values = list(said.get((pair.instruction, pair.baseline, pair.model), ()))
        if not pair.is_equal:
            values += [1 - value for value in said.get((pair.instruction, pair.model, pair.baseline), ())]
        if values:
            judged[place] = np.mean(values)
    return judged


def _preferences(location: str) -> dict[Texts, list[float]]:
    """The preferences for `output_2` by the texts of the pair."""
    rows, name = read_rows(location), shown_name(location)
    check_columns(rows, ("instruction", *WITH_ANSWERS), name)
    said: dict[Texts, list[float]] = {}
    for number, row in enumerate(rows, 1):
        place = f"row {number} of {name}"
        preference = preference_of(row, place, from_one=True)
        instruction, first, second = (text_of(row, column, place) for column in ("instruction", *WITH_ANSWERS[:2]))
        if isinstance(more := row.get("input"), str) and more.strip():
            instruction = f"{instruction}\n\n{more}"
        if not np.isnan(preference):
            said.setdefault((instruction, first, second), []).append(preference)
    return said
