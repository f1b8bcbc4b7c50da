from dataclasses import replace
from typing import Any

import pytest

from selectllm.ranking.calibration import Calibration, Judgement, Places, summarize
from selectllm.ranking.calibration_set import Pair

A, B = Pair("a", "maths", "en", "good a", "bad a"), Pair("b", "code", "de", "good b", "bad b")
MANY = tuple(Pair(f"{number:03}", "maths", "en", "good", "bad") for number in range(100))


def judged(*ranking: str, pairs: tuple[Pair, ...] = (A, B), named: int = 2) -> Judgement:
    """A list that showed better, worse, better, worse, and whose candidates were named in the order of the ranking."""
    shown = tuple(candidate.id for pair in pairs for candidate in pair.candidates)
    scores = dict.fromkeys(shown, -9.0) | {id: -float(place) for place, id in enumerate(ranking[:named])}
    return Judgement(pairs, scores, shown, ranking[:named])


def summary(*judgements: Judgement, unanswered: float = 0.0, **facts: Any) -> Calibration:
    return summarize(judgements, unanswered, 0.05, **{"p": None, "constant_answer": None} | facts)


def winning(share: float) -> Judgement:
    """Judgement of 100 pairs, of which the better text wins so large a share."""
    scores = {}
    for number, pair in enumerate(MANY):
        better, worse = pair.candidates
        scores[better.id], scores[worse.id] = (1.0, 0.0) if number < round(100 * share) else (0.0, 1.0)
    return Judgement(MANY, scores)


def test_accuracy_compares_the_pairs_and_auc_all_of_a_list() -> None:
    found = summary(judged("a/better", "b/worse"))
    assert found.overall.accuracy.value == 0.5, "one pair is won and one is lost"
    assert found.overall.auc.value == 0.625, "of four comparisons two are won, one is even and one is lost"
    assert {name: part.accuracy.value for name, part in found.by_language.items()} == {"de": 0.0, "en": 1.0}
    assert {name: part.accuracy.value for name, part in found.by_kind.items()} == {"code": 0.0, "maths": 1.0}


def test_a_pair_of_which_nothing_is_named_is_even() -> None:
    found = summary(judged("a/better", "a/worse"))
    assert {name: part.accuracy.value for name, part in found.by_language.items()} == {"de": 0.5, "en": 1.0}


def test_two_passes_over_a_pair_are_one_value() -> None:
    found = summary(judged("a/better", "b/better"), judged("a/worse", "b/better"))
    assert (found.overall.accuracy.pairs, found.overall.accuracy.value) == (2, 0.75)
    assert found.agreement == 0.5


def test_passes_agree_only_on_what_both_decide() -> None:
    assert summary(judged("a/better", "a/worse"), judged("a/better", "b/worse")).agreement == 1.0
    assert summary(judged("a/better", "b/better")).agreement is None


def test_places_count_what_is_named() -> None:
    found = summary(judged("a/better", "b/better"), judged("a/better", "a/worse"))
    assert found.places == Places(first_half=0.75, named=(1.0, 0.5, 0.5, 0.0), even=0.5)
    assert summary(winning(1.0)).places is None, "one by one there are no places"


@pytest.mark.parametrize(
    ("share", "verdict", "words"),
    [
        (1.0, "good", "Good enough"),
        (0.86, "good", "begins at 0.75 or above"),
        (0.8, "weak", "begins below 0.75"),
        (0.55, "chance", "contains 0.5"),
        (0.3, "reversed", "Worse than chance"),
    ],
)
def test_the_verdict_follows_the_interval(share: float, verdict: str, words: str) -> None:
    found = summary(winning(share))
    assert found.overall.accuracy.value == share
    assert found.verdict == verdict
    assert words in found.advice
    assert found.advice.count(".") - found.advice.count("0.") - found.advice.count("1.") == 1, "one sentence"


def test_a_model_that_seldom_answers_is_not_good() -> None:
    found = summary(winning(1.0), unanswered=0.06)
    assert (found.verdict, found.unanswered) == ("silent", 0.06)
    assert summary(winning(1.0), unanswered=0.05).verdict == "good"
    assert summary().verdict == "silent"


def test_a_constant_answer_is_named() -> None:
    found = summary(winning(1.0), constant_answer={"numbers": [1, 2, 3], "share": 1.0})
    assert found.verdict == "constant"
    assert "--mode pointwise" in found.advice


def test_more_passes_are_advised_where_they_help() -> None:
    weak = winning(0.8)
    listed = replace(weak, shown=tuple(weak.scores), named=tuple(weak.scores)[:100])
    assert "--passes" not in summary(weak).advice, "one by one, each pass would ask the very same"
    assert "or ask in more --passes." in summary(listed).advice
    assert "the place in the list sways it" in summary(listed, p=0.0001).advice
    assert "the place in the list sways it" in summary(replace(listed, scores=winning(1.0).scores), p=0.0001).advice
    assert "--passes" not in summary(replace(listed, scores=winning(1.0).scores), p=0.2).advice
