"""Picks rows one by one, each the one that adds most, without measuring all of them each time.

What a row adds never grows while rows are picked, so what it added when it was last measured bounds what it adds now.
Only rows whose bound is above the best gain found are measured again: the picks are those of a plain greedy search.

Source: Minoux, Accelerated Greedy Algorithms for Maximizing Submodular Set Functions, 1978. Stochastic: Mirzasoleiman
et al., Lazier Than Lazy Greedy (arXiv 1409.7938), which looks at (M / N) ln(1 / loss) rows, drawn anew, for each pick.
"""

import math
from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np

from selectllm.cancellation import raise_if_cancelled
from selectllm.queries import Rows
from selectllm.ranking.cover import Numbers, blocks

DIGITS: Final = 4
"""Digits of a gain that count, of which the last bits are noise: of equal gains the row that comes first is picked."""

FEWEST: Final = 16
"""Rows that are measured at first for a pick. As long as that is not enough, twice as many follow."""

MOST: Final = 1024
"""Rows that are measured at a time."""


class Objective(Protocol):
    """A monotone submodular function of rows."""

    def gains(self, rows: Rows) -> Numbers:
        """What each of these rows would add."""

    def add(self, row: int) -> None:
        """Let a row count as chosen."""


class LazyGreedy:
    """Maximises an objective over candidates, given by their numbers in ascending order."""

    def __init__(self, objective: Objective, candidates: Rows) -> None:
        self._objective, self._candidates = objective, candidates
        self._bounds = np.full(len(candidates), np.inf)
        self._is_left = np.ones(len(candidates), dtype=bool)

    def measure_all(self) -> Iterator[int]:
        """Measure every candidate once, which the first pick needs; yields how many are done."""
        for block in blocks(len(self._candidates), MOST):
            self._measure(np.arange(len(self._candidates))[block])
            yield min(block.stop, len(self._candidates))

    def picks(self, count: int) -> Iterator[tuple[int, float]]:
        """Yield `count` candidates in turn, fewer where no more are left, each with what it adds."""
        for _ in range(min(count, len(self._candidates))):
            yield self._pick(np.flatnonzero(self._is_left))

    def stochastic_picks(self, count: int, loss: float, seed: int) -> Iterator[tuple[int, float]]:
        """As `picks`, but each pick is the best of candidates that the seed draws.

        The expected value is at least that of a plain greedy search's guarantee, less `loss`.
        """
        rng = np.random.default_rng(seed)
        size = math.ceil(len(self._candidates) / max(count, 1) * math.log(1 / loss))
        for _ in range(min(count, len(self._candidates))):
            left = np.flatnonzero(self._is_left)
            drawn = rng.choice(left, min(size, len(left)), replace=False)
            yield self._pick(np.sort(drawn))

    def _pick(self, places: Rows) -> tuple[int, float]:
        """Pick the best of the candidates at these places."""
        is_measured = np.zeros(len(places), dtype=bool)
        best, batch = -1, FEWEST
        while True:
            bounds = self._bounds[places]
            may_win = ~is_measured
            if best >= 0:
                may_win &= (bounds > bounds[best]) | ((bounds == bounds[best]) & (np.arange(len(places)) < best))
            stale = np.flatnonzero(may_win)
            if not len(stale):
                break
            if len(stale) > batch:
                stale = stale[np.argpartition(-bounds[stale], batch - 1)[:batch]]
            self._measure(places[stale])
            is_measured[stale] = True
            best = int(np.where(is_measured, self._bounds[places], -np.inf).argmax())
            batch = min(2 * batch, MOST)
        place = int(places[best])
        self._is_left[place] = False
        row = int(self._candidates[place])
        self._objective.add(row)
        return row, float(self._bounds[place])

    def _measure(self, places: Rows) -> None:
        raise_if_cancelled()
        self._bounds[places] = self._objective.gains(self._candidates[places]).round(DIGITS)
