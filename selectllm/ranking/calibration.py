"""What a calibration found: how well a model tells better instructions from worse ones, and whether that is enough."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from selectllm.ranking.calibration_set import Pair
from selectllm.ranking.discrimination import Comparisons, Estimate, Values

Verdict = Literal["good", "weak", "chance", "reversed", "constant", "silent"]

GOOD: Final = 0.75
"""Pairwise accuracy that the whole interval must reach before a model counts as good enough."""
CHANCE: Final = 0.5
MOST_BIASED: Final = 0.001
"""The p-value of first picks by place below which the advice speaks of it, as in a run."""


@dataclass(frozen=True)
class Judgement:
    """What one question, or all pointwise questions together, said about some pairs.

    `scores` are those of candidates by id, the higher the better. `shown` are the ids in the order that the list showed
    them, and `named` those that the answer named; both are empty where candidates were asked about one by one.
    """

    pairs: tuple[Pair, ...]
    scores: Mapping[str, float]
    shown: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Discrimination:
    """How well better and worse were told apart: in their pairs, and among all that were judged together."""

    accuracy: Estimate
    auc: Estimate


@dataclass(frozen=True)
class Places:
    """Where the named candidates stood: without bias, every place is named as often as any other.

    `first_half` is the share of them that stood in the first half of the list. `named` are, by place, the share of
    lists whose candidate there was named, and `even` is what that share would be for all places without bias.
    """

    first_half: float
    named: tuple[float, ...]
    even: float


@dataclass(frozen=True)
class Calibration:
    """All that a calibration found; `p` is the p-value of even first picks, None where nothing is shown in lists."""

    overall: Discrimination
    by_language: Mapping[str, Discrimination]
    by_kind: Mapping[str, Discrimination]
    places: Places | None
    agreement: float | None
    p: float | None
    constant_answer: Mapping[str, Any] | None
    unanswered: float
    verdict: Verdict
    advice: str


def summarize(
    judgements: Sequence[Judgement],
    unanswered: float,
    most_unanswered: float,
    p: float | None,
    constant_answer: Mapping[str, Any] | None,
) -> Calibration:
    """Measure what the judgements say, and judge whether it is enough.

    Parameters: `unanswered`, the share of questions without a usable answer, and `most_unanswered`, the share beyond
    which a run stops; `p` and `constant_answer` as in the result.
    """
    pairs = list(dict.fromkeys(pair for judgement in judgements for pair in judgement.pairs))
    numbers = {pair.id: number for number, pair in enumerate(pairs)}
    comparisons = Comparisons(len(pairs))
    for judgement in judgements:
        comparisons.add([numbers[pair.id] for pair in judgement.pairs], *_scores(judgement))

    def part(chosen: Sequence[bool]) -> Discrimination:
        mask = np.array(chosen, dtype=np.bool_)
        return Discrimination(comparisons.accuracy(mask), comparisons.auc(mask))

    def parts(names: Sequence[str]) -> dict[str, Discrimination]:
        return {name: part([other == name for other in names]) for name in sorted(set(names))}

    overall = part([True] * len(pairs))
    lists = [judgement for judgement in judgements if judgement.shown]
    is_biased = p is not None and p < MOST_BIASED
    verdict = _verdict(overall.accuracy, unanswered > most_unanswered, constant_answer is not None)
    return Calibration(
        overall=overall,
        by_language=parts([pair.language for pair in pairs]),
        by_kind=parts([pair.kind for pair in pairs]),
        places=_places(lists) if lists else None,
        agreement=_agreement(judgements),
        p=p,
        constant_answer=constant_answer,
        unanswered=round(unanswered, 4),
        verdict=verdict,
        advice=_advice(verdict, overall.accuracy, is_listwise=bool(lists), is_biased=is_biased),
    )


def _scores(judgement: Judgement) -> tuple[Values, Values]:
    """The scores of the pairs' better texts, and those of their worse texts."""
    both = [[judgement.scores[candidate.id] for candidate in pair.candidates] for pair in judgement.pairs]
    better, worse = np.asarray(both, dtype=np.float64).T
    return better, worse


def _agreement(judgements: Sequence[Judgement]) -> float | None:
    """The share of pairs on which two passes say the same, of those that both decide; by chance it is a half."""
    decided = defaultdict[str, list[bool]](list)
    for judgement in judgements:
        for pair, better, worse in zip(judgement.pairs, *_scores(judgement), strict=True):
            if better != worse:
                decided[pair.id].append(better > worse)
    same = [values[0] == values[1] for values in decided.values() if len(values) == 2]
    return round(float(np.mean(same)), 4) if same else None


def _places(lists: Sequence[Judgement]) -> Places:
    longest = max(len(judgement.shown) for judgement in lists)
    shown, named, first_half = np.zeros(longest), np.zeros(longest), 0
    for judgement in lists:
        is_named = np.isin(judgement.shown, judgement.named)
        shown[: len(is_named)] += 1
        named[: len(is_named)] += is_named
        first_half += int(is_named[: len(is_named) // 2].sum())
    shares = tuple(round(float(share), 4) for share in named / shown)
    return Places(round(first_half / float(named.sum()), 4), shares, round(float(named.sum() / shown.sum()), 4))


def _verdict(accuracy: Estimate, is_silent: bool, is_constant: bool) -> Verdict:
    if is_silent or accuracy.value is None or accuracy.low is None or accuracy.high is None:
        return "silent"
    if is_constant:
        return "constant"
    if accuracy.high < CHANCE:
        return "reversed"
    if accuracy.low <= CHANCE:
        return "chance"
    return "good" if accuracy.low >= GOOD else "weak"


def _advice(verdict: Verdict, accuracy: Estimate, *, is_listwise: bool, is_biased: bool) -> str:
    """One sentence; more passes help only with lists: about texts one by one, each pass would ask the very same."""
    if verdict == "silent":
        return "Too many questions had no usable answer, and a run would stop: choose another model, or another --mode."
    if verdict == "constant":
        return "It gives the same numbers whatever is shown: choose another model, or try --mode pointwise."
    seen = f"the interval of its accuracy, {accuracy.low:.2f} to {accuracy.high:.2f},"
    passes = "ask in more --passes" + (", since the place in the list sways it" if is_biased else "")
    if verdict == "good":
        return f"Good enough: {seen} begins at {GOOD} or above{f'; {passes}' if is_biased else ''}."
    if verdict == "weak":
        better = f"prefer a stronger model{f', or {passes}' if is_listwise else ''}"
        return f"Better than chance, but not shown to be good enough: {seen} begins below {GOOD}; {better}."
    if verdict == "chance":
        return f"No better than chance: {seen} contains {CHANCE}; choose another model."
    return f"Worse than chance: {seen} lies below {CHANCE}; choose another model."
