"""The length-controlled win rate: what a model's win rate would be if its answers were as long as the baseline's.

A logistic model of the preference is fitted to the difference of lengths, the question's difficulty and the model
itself, and asked about a difference of 0. Source: "Length-Controlled AlpacaEval" (arXiv 2404.04475). AlpacaEval fits it
by L1 with a strength found by cross-validation; without any penalty it says the same within some hundredths of a point.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from selectllm.evaluation.alpaca_eval.annotations import Annotations, Numbers
from selectllm.evaluation.alpaca_eval.controls import Regularizer, read_difficulty, read_regularizer
from selectllm.queries import Rows

REGULARIZER_WEIGHT: Final = 0.1
"""What a row of the regulariser counts beside an annotation: 0.2 over its two gamed baselines."""

GRADIENT: Final = 1e-8
"""The length of the gradient of the mean loss at which the fit is done."""

LEAST_ROWS: Final = 10
"""Annotations with a preference below which nothing is fitted."""


@dataclass(frozen=True, eq=False)
class LengthControl:
    """The data of the fit: `deltas` (M,) are the baseline's length less the model's, in characters."""

    deltas: Numbers
    preferences: Numbers
    difficulty: Numbers | None = None
    regularizer: Regularizer | None = None

    @property
    def hindrance(self) -> str | None:
        """Why there is no length-controlled win rate, None where there is one."""
        if (judged := int((~np.isnan(self.preferences)).sum())) < LEAST_ROWS:
            return f"{judged} annotations with a preference are too few for a fit: it takes {LEAST_ROWS}"
        if not np.ptp(self.deltas):
            return "all answers differ from the baseline's by the same length: nothing tells what length does"
        return None

    def win_rate(self, rows: Rows) -> float:
        """The length-controlled win rate in percent of some annotations, fitted to these; NaN where none can be."""
        deltas, preferences = self.deltas[rows], self.preferences[rows]
        # Drawn rows may all be alike: their differences are then measured by the spread of all.
        spread = np.std(deltas, ddof=1) or np.std(self.deltas, ddof=1)
        judged = ~np.isnan(preferences)
        if not judged.any() or not spread:
            return float("nan")
        difficulty = None if self.difficulty is None else self.difficulty[rows]
        own = _features(np.tanh(deltas / spread), difficulty, 1.0)
        features, targets, weights = own[judged], preferences[judged], np.ones(int(judged.sum()))
        if gamed := self.regularizer:
            ruled = _features(np.tanh(gamed.deltas), None if difficulty is None else gamed.difficulty, 0.0)
            features, targets = np.vstack([features, ruled]), np.concatenate([targets, gamed.preferences])
            weights = np.concatenate([weights, np.full(len(ruled), REGULARIZER_WEIGHT)])
        coefficients = _fit(features, targets, weights)
        equal_lengths = _features(np.zeros(len(rows)), difficulty, 1.0)
        return float(100 * _logistic(equal_lengths @ coefficients).mean())


def read_control(annotations: Annotations, difficulty: str | None, regularizer: str | None) -> LengthControl:
    """The data of the fit of annotations, with the files of what AlpacaEval adds; raises PoolError, UsageError."""
    hardness = read_difficulty(difficulty, annotations) if difficulty else None
    gamed = read_regularizer(regularizer, with_difficulty=hardness is not None) if regularizer else None
    deltas = annotations.baseline_lengths - annotations.model_lengths
    return LengthControl(deltas, annotations.preferences, hardness, gamed)


def _features(lengths: Numbers, difficulty: Numbers | None, own: float) -> Numbers:
    """One row each: the difference of lengths, the difficulty where there is one, and 1 for the model's own rows."""
    columns = [lengths, *([] if difficulty is None else [difficulty]), np.full(len(lengths), own)]
    return np.column_stack(columns)


def _fit(features: Numbers, targets: Numbers, weights: Numbers) -> Numbers:
    """The coefficients that make the targets, probabilities, most likely; without an intercept or a penalty."""
    from scipy.optimize import minimize  # only when there is something to fit

    scale = weights.sum()

    def loss(coefficients: Numbers) -> tuple[float, Numbers]:
        logits = features @ coefficients
        losses = np.logaddexp(0, logits) - targets * logits
        return float(weights @ losses / scale), features.T @ (weights * (_logistic(logits) - targets)) / scale

    def curvature(coefficients: Numbers) -> Numbers:
        chances = _logistic(features @ coefficients)
        curved: Numbers = (features.T * (weights * chances * (1 - chances))) @ features / scale
        return curved

    # Where preferences can be told apart without error, coefficients grow until the gradient is as good as 0.
    start, options = np.zeros(features.shape[1]), {"gtol": GRADIENT}
    found: Numbers = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options=options).x
    return found


def _logistic(logits: Numbers) -> Numbers:
    result: Numbers = np.exp(-np.logaddexp(0, -logits))
    return result
