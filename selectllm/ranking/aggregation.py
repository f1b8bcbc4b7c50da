"""Makes one ranking of several passes over the same candidates, and tells how far rankings can be relied on.

Source: permutation self-consistency (arXiv 2310.07712). That paper takes the ranking nearest to all passes (Kemeny's);
Borda's count needs no search, has few ties, and reads partial rankings.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.errors import ContractError

Counts = npt.NDArray[np.integer[Any]]

LEAST_PICKS: Final = 30  # with fewer picks, an even spread and an uneven one look alike
LEAST_EXPECTED: Final = 5.0  # picks in a cell before the chi-square distribution describes it (Cochran's rule)


@dataclass(frozen=True)
class Consensus:
    """The best candidates over all passes, best first; their points; how many of their places hang on a tie-break."""

    ids: tuple[str, ...]
    points: tuple[float, ...]
    ties: int


def borda(candidates: Sequence[str], rankings: Sequence[Sequence[str]], wanted: int) -> Consensus:
    """Find the best `wanted` of K candidates by Borda's count over all passes.

    Parameters: `candidates`, K distinct ids; `rankings`, one a pass: some or all of the ids, best first. In each pass
    rank r earns K - r points, and the candidates that it does not name share the mean of the ranks it leaves. Equal
    points are decided by the best rank in any pass, then by how often it was given that, then by the id.

    Returns points summed over the passes; `ties` counts neighbours of equal points, the last one returned and the first
    left out among them. One that no pass names is never returned, so there may be fewer than `wanted`.
    Raises ContractError for ids that repeat, or a ranking of others than the candidates.
    """
    earned = (len(candidates) - _ranks(candidates, rankings)).sum(axis=0)  # halves at worst: sums and ties are exact
    points: dict[str, float] = dict(zip(candidates, earned.tolist(), strict=True))
    given = defaultdict(list)
    for ranking in rankings:
        for rank, id in enumerate(ranking, start=1):
            given[id].append(rank)

    def order(id: str) -> tuple[float, int, int, str]:
        best = min(given[id])
        return -points[id], best, -given[id].count(best), id

    ordered = sorted(given, key=order)
    ties = sum(points[id] == points[following] for id, following in pairwise(ordered[: wanted + 1]))
    return Consensus(tuple(ordered[:wanted]), tuple(points[id] for id in ordered[:wanted]), ties)


def kendalls_w(candidates: Sequence[str], rankings: Sequence[Sequence[str]]) -> float | None:
    """Measure how far the passes agree: Kendall's W, corrected for ties, from 0 (not at all) to 1 (the same ranking).

    Parameters: as for `borda`; the candidates that a pass does not name are tied in it, at the mean of their ranks. A
    pass that names none abstained, and is left out. Passes that rank by chance give 1 / passes on average, not 0.
    Returns None with fewer than two passes or two candidates: there is nothing to agree on.
    Raises ContractError as `borda` does. Source: Kendall and Babington Smith, 1939.
    """
    voiced = [ranking for ranking in rankings if ranking]
    apart = _ranks(candidates, voiced) - (len(candidates) + 1) / 2
    if len(voiced) < 2 or len(candidates) < 2:
        return None
    # The spread that full agreement would give, taken from the ranks as they are: this is the correction for ties.
    return float((apart.sum(axis=0) ** 2).sum() / (len(voiced) * (apart**2).sum()))


def position_bias_pvalue(picks: Counts, shown: Counts) -> float | None:
    """Test whether the first picks are spread evenly over the positions in which candidates were shown.

    Parameters: `picks` (n,), from 0, where the FIRST pick of each question stood; `shown` (n,), how many candidates
    that question showed. Never the later picks: they cannot stand where the first stood, and so are not independent of
    it. Passes over the same candidates are, if each is shuffled anew: the shuffle alone decides what stands where.

    Returns the p-value of a chi-square test. A question that shows s candidates expects 1/s of a pick in each of the
    first s positions; neighbours are pooled until `LEAST_EXPECTED` picks are expected. None with fewer than
    `LEAST_PICKS` picks among two candidates or more, or fewer than two cells. It tells that positions matter, not how
    much: over many questions a slight lean is found too.
    Raises ContractError for a pick outside the positions shown.
    """
    if ((picks < 0) | (picks >= shown)).any():
        raise ContractError("a pick stands outside the positions shown: positions count from 0")
    open_to_choice = shown > 1
    picks, shown = picks[open_to_choice], shown[open_to_choice]
    if len(picks) < LEAST_PICKS:
        return None
    most = int(shown.max())
    share = np.tri(most) / np.arange(1, most + 1)[:, np.newaxis]  # row s - 1: of a question that shows s
    questions = np.bincount(shown, minlength=most + 1)[1:]
    cells = _cells(questions @ share)
    if len(cells) < 2:
        return None
    share = np.add.reduceat(share, cells, axis=1)
    expected = questions @ share
    excess = np.add.reduceat(np.bincount(picks, minlength=most), cells) - expected
    # Equal to Pearson's sum of excess² / expected where all questions show as many; elsewhere that is too timid.
    covariance = np.diag(expected) - (share.T * questions) @ share
    free = slice(1, None)  # the cells sum to n: all but one are free, and say everything
    statistic = excess[free] @ np.linalg.solve(covariance[free, free], excess[free])
    return _chance_of_more(float(statistic), len(cells) - 1)


def _chance_of_more(statistic: float, freedom: int) -> float:
    """The survival function of the chi-square distribution, in closed form, for whole degrees of freedom.

    As `scipy.special.chdtrc`, whose import takes longer than all else that a run does whose results are kept.
    """
    half, odd = statistic / 2, freedom % 2
    chance = math.erfc(math.sqrt(half)) if odd else math.exp(-half)
    for step in range((freedom - 1) // 2):
        power = step + 1 - odd / 2
        chance += math.exp(power * math.log(half) - half - math.lgamma(power + 1)) if half else 0.0
    return chance


def position_bias_warning(p: float | None, alpha: float = 0.001) -> str | None:
    """Say in a sentence for people that the selector goes by position, if `position_p` is below `alpha`; else None."""
    if p is None or p >= alpha:
        return None
    return (
        f"The selector's first picks favour some positions in the list more than chance allows (p < {alpha:g}): where "
        "a candidate stands sways its rank. Ask in more passes, or choose a stronger model."
    )


def _ranks(candidates: Sequence[str], rankings: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """The rank of every candidate (columns) in every pass (rows), from 1; the unnamed share the mean of the rest."""
    count = len(candidates)
    column = {id: place for place, id in enumerate(candidates)}
    if len(column) < count:
        raise ContractError("candidates repeat: each is ranked once")
    ranks = np.empty((len(rankings), count))
    for row, ranking in zip(ranks, rankings, strict=True):
        if len(set(ranking)) < len(ranking) or not column.keys() >= set(ranking):
            raise ContractError("a ranking names a candidate twice, or one that it was not shown")
        row[:] = (len(ranking) + 1 + count) / 2
        row[[column[id] for id in ranking]] = np.arange(1, len(ranking) + 1)
    return ranks


def _cells(expected: npt.NDArray[np.float64]) -> list[int]:
    """Where each cell starts; what is left at the end, too little for a cell of its own, joins the last one."""
    bounds, pooled = [0], 0.0
    for position, count in enumerate(expected, start=1):
        pooled += count
        if pooled >= LEAST_EXPECTED:
            bounds.append(position)
            pooled = 0.0
    return bounds[:-1]
