"""The scores of a model by its annotations: the win rate, and the win rate at equal length, with what was left out."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from selectllm.errors import UsageError
from selectllm.evaluation.alpaca_eval.annotations import Annotations
from selectllm.evaluation.alpaca_eval.length_control import LengthControl
from selectllm.evaluation.row_bootstrap import Estimated, estimate


@dataclass(frozen=True)
class Scores:
    """Scores in percent of one model against one baseline.

    `n` annotations have a preference, and `unjudged` have none: these count in no win rate. `standard_error` is of
    `win_rate`. `length_controlled` is None where `notes` say why; `notes` also say what the fit went without.
    """

    model: str
    baseline: str
    annotator: str
    n: int
    unjudged: int
    win_rate: float
    standard_error: float
    length_controlled: Estimated | None
    average_length: float
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The same in plain values, under AlpacaEval's names where it has them."""
        lc = self.length_controlled
        return {
            "model": self.model,
            "baseline": self.baseline,
            "annotator": self.annotator,
            "n": self.n,
            "unjudged": self.unjudged,
            "win_rate": self.win_rate,
            "standard_error": self.standard_error,
            "lc_win_rate": lc and lc.value,
            "lc_low": lc and lc.low,
            "lc_high": lc and lc.high,
            "avg_length": self.average_length,
            "notes": list(self.notes),
        }


def score(annotations: Annotations, control: LengthControl, seed: int = 0) -> Scores:
    """The scores by annotations; `seed` decides the rows that the interval is drawn from.

    Raises UsageError for fewer than two preferences.
    """
    preferences = annotations.preferences[~np.isnan(annotations.preferences)]
    count, unjudged = len(preferences), len(annotations.preferences) - len(preferences)
    if count < 2:
        raise UsageError(f"{count} of the {count + unjudged:,} annotations have a preference: a win rate needs two")
    hindrance = control.hindrance
    notes = []
    if hindrance:
        notes.append(f"there is no length-controlled win rate: {hindrance}")
    else:
        if control.difficulty is None:
            notes.append("fitted without the difficulty of questions (--difficulty)")
        if control.regularizer is None:
            notes.append("fitted without the regulariser's rows (--regularizer)")
    if unjudged:
        notes.append(f"{unjudged:,} annotations have no preference, and count in no win rate")
    return Scores(
        model=annotations.model,
        baseline=annotations.baseline,
        annotator=annotations.annotator,
        n=count,
        unjudged=unjudged,
        win_rate=float(100 * preferences.mean()),
        standard_error=float(100 * preferences.std(ddof=1) / math.sqrt(count)),
        length_controlled=None if hindrance else estimate(control.win_rate, len(annotations.preferences), seed),
        average_length=float(annotations.model_lengths.mean()),
        notes=tuple(notes),
    )
