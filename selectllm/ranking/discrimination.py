"""How well scores tell better from worse: pairwise accuracy and AUC, with intervals by a bootstrap over the pairs.

Drawing a pair draws both its texts, in every comparison that they were part of. So an interval of the AUC allows for
texts that are easy or hard to tell from all others, and two passes over a pair do not count as two pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
SEED: Final = 0  # the same answers have the same intervals


@dataclass(frozen=True)
class Estimate:
    """A share from 0 to 1 with its 95 % interval, and over how many pairs; None where nothing was compared."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int


NOTHING: Final = Estimate(None, None, None, 0)


class Comparisons:
    """How often each pair's better text (rows) beat each pair's worse text (columns), of so often that they met."""

    def __init__(self, pairs: int) -> None:
        self._won, self._met = np.zeros((pairs, pairs)), np.zeros((pairs, pairs))

    def add(self, members: Sequence[int], better: Values, worse: Values) -> None:
        """Add what was judged together: the pairs (n) by number, and the scores (n,) of their texts."""
        cells = np.ix_(members, members)
        self._won[cells] += wins(better, worse)
        self._met[cells] += 1

    def accuracy(self, chosen: Mask) -> Estimate:
        """How often the better text of a chosen pair beat its own worse text; `chosen` is (pairs,)."""
        judged = chosen & (self._met.diagonal() > 0)
        if not judged.any():
            return NOTHING
        shares = self._won.diagonal()[judged] / self._met.diagonal()[judged]
        return _estimate(shares.mean(), _weights(len(shares)) @ shares / len(shares), len(shares))

    def auc(self, chosen: Mask) -> Estimate:
        """How often a better text beat a worse one, of all comparisons with a text of a chosen pair."""
        judged = self._met.diagonal() > 0
        if not (chosen & judged).any():
            return NOTHING
        involved = chosen[judged][:, np.newaxis] | chosen[judged][np.newaxis, :]
        won, met = (table[np.ix_(judged, judged)] * involved for table in (self._won, self._met))
        weights = _weights(len(won))
        compared = ((weights @ met) * weights).sum(axis=1)
        # A resample without a chosen pair compares nothing: it happens only to parts of very few pairs.
        drawn = ((weights @ won) * weights).sum(axis=1)[compared > 0] / compared[compared > 0]
        return _estimate(won.sum() / met.sum(), drawn, int((chosen & judged).sum()))


def wins(better: Values, worse: Values) -> Values:
    """Compare better ones (rows) with worse ones (columns): 1 where the better one's score is higher, 0.5 where equal.

    Parameters: scores (n,) and (m,), of which a higher one means better. Returns (n, m).
    """
    result: Values = (np.sign(better[:, np.newaxis] - worse[np.newaxis, :]) + 1) / 2
    return result


def _weights(pairs: int) -> npt.NDArray[np.int64]:
    """How often each pair (columns) is drawn in each resample (rows)."""
    return np.random.default_rng(SEED).multinomial(pairs, np.full(pairs, 1 / pairs), size=RESAMPLES)


def _estimate(value: float, drawn: Values, pairs: int) -> Estimate:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(round(float(value), 4), round(float(low), 4), round(float(high), 4), pairs)
