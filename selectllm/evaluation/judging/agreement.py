"""How far a judge agrees with people, or with published preferences, and what else than quality it goes by."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.errors import UsageError
from selectllm.evaluation.row_bootstrap import Estimated, estimate
from selectllm.queries import Rows

Numbers = npt.NDArray[np.float64]
Verdicts = npt.NDArray[np.int64]

DRAW: Final = 0.5


@dataclass(frozen=True)
class Agreement:
    """A judge against given preferences, on `n` pairs that it has judged; `unjudged` more count in nothing.

    `accuracy` is over the pairs whose given preference is no draw, and counts a draw of the judge as half. `kappa` is
    Cohen's, over the classes first, second and draw. `position_bias` is the judge's mean preference for the answer
    shown first, less 0.5. `length_bias` is its mean preference for the longer answer, less that of the given
    preferences. Each is None where no pair can tell.
    """

    n: int
    unjudged: int
    draws: int
    accuracy: Estimated | None
    kappa: Estimated | None
    position_bias: Estimated | None
    length_bias: Estimated | None

    def record(self) -> dict[str, Any]:
        """The same in plain values."""
        names = ("accuracy", "kappa", "position_bias", "length_bias")
        estimates = {name: getattr(self, name) for name in names}
        counts = {"n": self.n, "unjudged": self.unjudged, "given_draws": self.draws}
        return counts | {name: found and found.record() for name, found in estimates.items()}


@dataclass(frozen=True, eq=False)
class Compared:
    """Given and judged preferences (M,) for the second answer of each pair, from 0 to 1.

    `judged` is NaN where the judge gave none. `longer` (M,) is 1 where the second answer is the longer one, -1 where
    the first is, else 0. `first_shown` (M,) is the judge's preference for the answer that was shown first, NaN where
    that is not known.
    """

    given: Numbers
    judged: Numbers
    longer: Numbers
    first_shown: Numbers

    def accuracy(self, rows: Rows) -> float:
        """The share of the pairs with a given winner on which the judge names the same; a draw is half."""
        given, judged = _verdicts(self.given[rows]), _verdicts(self.judged[rows])
        decided = given != 0
        return float(1 - np.abs(given - judged)[decided].mean() / 2) if decided.any() else float("nan")

    def kappa(self, rows: Rows) -> float:
        """Cohen's kappa of the two, NaN where both always say the same one thing.

        Source: Cohen, "A coefficient of agreement for nominal scales" (1960).
        """
        given, judged = _verdicts(self.given[rows]) + 1, _verdicts(self.judged[rows]) + 1
        shares = np.bincount(3 * given + judged, minlength=9).reshape(3, 3) / len(rows)
        chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
        return float((np.trace(shares) - chance) / (1 - chance)) if chance < 1 else float("nan")

    def position_bias(self, rows: Rows) -> float:
        """The mean preference for the answer shown first, less 0.5."""
        shown = self.first_shown[rows]
        known = ~np.isnan(shown)
        return float(shown[known].mean() - DRAW) if known.any() else float("nan")

    def length_bias(self, rows: Rows) -> float:
        """How much more the judge prefers the longer answer than the given preferences do."""
        longer = self.longer[rows]
        excess = ((self.judged[rows] - self.given[rows]) * longer)[longer != 0]
        return float(excess.mean()) if len(excess) else float("nan")


def agreement(compared: Compared, seed: int = 0) -> Agreement:
    """The agreement with 95 % bootstrap intervals over the judged pairs; raises UsageError where none is judged."""
    judged = ~np.isnan(compared.judged)
    count = int(judged.sum())
    if not count:
        raise UsageError(f"none of the {len(judged):,} pairs is judged: there is nothing to compare")
    kept = Compared(*(part[judged] for part in vars(compared).values()))
    return Agreement(
        n=count,
        unjudged=len(judged) - count,
        draws=int((kept.given == DRAW).sum()),
        accuracy=estimate(kept.accuracy, count, seed),
        kappa=estimate(kept.kappa, count, seed),
        position_bias=estimate(kept.position_bias, count, seed),
        length_bias=estimate(kept.length_bias, count, seed),
    )


def _verdicts(preferences: Numbers) -> Verdicts:
    """1 where the second answer wins, -1 where the first does, 0 for a draw."""
    return np.sign(preferences - DRAW).astype(np.int64)
