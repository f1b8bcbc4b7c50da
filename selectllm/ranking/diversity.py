"""Chooses rows that are rated well and together cover the others: a greedy maximum of rating and facility location.

What is maximised is (1 - D) * R + D * C, where D is the diversity, from 0 to 1. R is the mean rating of the chosen
rows, where ratings are scaled to 0..1 over the rows that may be picked. C is how well the chosen rows cover all rows:
the mean, over all rows, of the highest cosine to a chosen row, where a cosine below 0 counts as 0. Both are means from
0 to 1, so neither outweighs the other by the size of the pool or of the budget. Rows are picked one by one, each the
one that adds most. The sum is monotone and submodular, so this reaches at least 1 - 1/e (63 %) of the best choice among
the rows that may be picked.

Gains are kept exact at each pick: it changes them only by the rows that it covers better, which soon are few. That
takes as long as computing all gains about ln(budget) times.

Source: Nemhauser, Wolsey and Fisher, An Analysis of Approximations for Maximizing Submodular Set Functions, 1978.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from selectllm.queries import Vectors
from selectllm.ranking.cover import COVERED, Cover, Numbers, to_cover
from selectllm.ranking.near_duplicates import PassedOver, Picks, choose_distinct, nearest_chosen
from selectllm.ranking.strata import Room, Strata

CANDIDATES: Final = 10
"""Rows that may be picked, for each row of the budget: the first of the order."""

DIGITS: Final = 6
"""Digits of a gain, times the budget, that count: of equal gains the row that comes first is picked."""


@dataclass(frozen=True)
class Aim:
    """What is maximised: the diversity D, and how many rows are to be chosen, in all and of each stratum."""

    diversity: float
    budget: int
    strata: Strata | None = None


def choose_diverse(vectors: Vectors, scores: Numbers | None, aim: Aim, limit: float | None = None) -> Picks:
    """Pick rows greedily by rating and cover together; of equal gains the row that comes first.

    Parameters: `vectors` (M, d) of unit length, the best row first; `scores` (M,), None where not all rows have one;
    `limit`, the cosine from which on a row that would be picked next is passed over instead, since it is so near to a
    chosen one. Only the first 10 * budget rows may be picked; with strata the first 10 times as many of each as are
    wanted of it. Where too many of these are passed over, the rest of the rows follows in its order. Returns fewer rows
    than the budget where no more are left.
    """
    if aim.strata:
        is_candidate = aim.strata.is_among_first(CANDIDATES)
        order = np.argsort(~is_candidate, kind="stable")
        ordered = replace(aim, strata=aim.strata.reordered(order))
        in_order = None if scores is None else scores[order]
        picks = _choose(vectors[order], in_order, ordered, limit, int(is_candidate.sum()))
        return picks.numbered(order)
    return _choose(vectors, scores, aim, limit, min(len(vectors), CANDIDATES * aim.budget))


def _choose(vectors: Vectors, scores: Numbers | None, aim: Aim, limit: float | None, count: int) -> Picks:
    """Pick from the first `count` rows, then from the others."""
    ratings = scaled(None if scores is None else scores[:count], count)
    cover, picks, is_left = Cover(to_cover(vectors, COVERED), vectors[:count]), Picks(), np.ones(count, dtype=bool)
    room = Room(aim.strata)
    while is_left.any() and len(picks.chosen) < aim.budget:
        gains = (1 - aim.diversity) * ratings + aim.diversity * aim.budget * cover.gains
        row = int(np.where(is_left, gains.round(DIGITS), -np.inf).argmax())
        is_left[row] = False
        if not room.is_open(row):
            continue
        if near := _near(vectors, picks, row, limit):
            picks.passed_over.append(near)
        else:
            picks.chosen.append(row)
            room.take(row)
            cover.add(row)
    return picks if limit is None else choose_distinct(vectors, aim.budget, limit, picks, count, aim.strata)


def scaled(scores: Numbers | None, count: int) -> Numbers:
    """Ratings of rows from 0 to 1, the best row first: their scores, scaled; by their places where scores do not fall.

    Parameters: `scores` (count,), None where not all rows have one. Scores by which the rows do not stand in order, as
    those of rows that are ranked in tiers, do not say which row is better.
    """
    if scores is None or (np.diff(scores) > 0).any():
        scores = -np.arange(count, dtype=np.float64)
    lowest, highest = scores.min(initial=np.inf), scores.max(initial=-np.inf)
    return (scores - lowest) / (highest - lowest) if highest > lowest else np.ones(count)


def _near(vectors: Vectors, picks: Picks, row: int, limit: float | None) -> PassedOver | None:
    if limit is None:
        return None
    near, cosines = nearest_chosen(vectors, picks.chosen, vectors[row : row + 1])
    return PassedOver(row, int(near[0]), float(cosines[0])) if cosines[0] >= limit else None
