from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import chdtrc

from selectllm.errors import ContractError
from selectllm.ranking import aggregation
from selectllm.ranking.aggregation import Consensus, borda, kendalls_w, position_bias_pvalue, position_bias_warning

Ballots = tuple[list[str], list[list[str]]]


@st.composite
def ballots(draw: st.DrawFn, least: int = 1) -> Ballots:
    """Candidates, and at least `least` passes. Each pass names one or more candidates."""
    candidates = list("abcdefg"[: draw(st.integers(2, 7))])
    orders = draw(st.lists(st.permutations(candidates), min_size=least, max_size=6))
    return candidates, [order[: draw(st.integers(1, len(candidates)))] for order in orders]


def points_by_duels(id: str, candidates: Sequence[str], rankings: Sequence[Sequence[str]]) -> Fraction:
    """Borda's count by its other definition: one point per beaten rival in a pass, half a point per tie."""
    points = Fraction(0)
    for ranking in rankings:
        ranks = {named: rank for rank, named in enumerate(ranking)}
        mine = ranks.get(id, len(candidates))
        theirs = [ranks.get(rival, len(candidates)) for rival in candidates if rival != id]
        points += sum(mine < other for other in theirs) + Fraction(sum(mine == other for other in theirs), 2)
    return points


@given(ballots(), st.integers(1, 7))
@settings(max_examples=80, deadline=None)
def test_borda_agrees_with_its_definition(ballot: Ballots, top_k: int) -> None:
    candidates, rankings = ballot

    def order(id: str) -> tuple[Fraction, list[int], str]:
        ranks = sorted(ranking.index(id) for ranking in rankings if id in ranking)
        return -points_by_duels(id, candidates, rankings), [ranks[0], -ranks.count(ranks[0])], id

    named = sorted({id for ranking in rankings for id in ranking}, key=order)
    points = [points_by_duels(id, candidates, rankings) for id in named]
    consensus = borda(candidates, rankings, top_k)
    assert consensus.ids == tuple(named[:top_k])
    assert list(consensus.points) == points[:top_k]
    assert consensus.ties == sum(points[place] == points[place + 1] for place in range(min(top_k, len(named) - 1)))


@given(ballots(), st.integers(1, 7), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_neither_the_order_of_candidates_nor_that_of_passes_matters(ballot: Ballots, top_k: int, random) -> None:
    candidates, rankings = ballot
    shuffled = random.sample(candidates, len(candidates)), random.sample(rankings, len(rankings))
    assert borda(*shuffled, top_k) == borda(candidates, rankings, top_k)
    assert kendalls_w(*shuffled) == kendalls_w(candidates, rankings)


@given(ballots(), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_unanimous_passes_are_the_consensus(ballot: Ballots, passes: int) -> None:
    candidates, (ranking, *_) = ballot
    consensus = borda(candidates, [ranking] * passes, len(ranking))
    assert (consensus.ids, consensus.ties) == (tuple(ranking), 0)


@given(ballots(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_candidate_that_rises_in_a_pass_never_falls_in_the_consensus(ballot: Ballots, data: st.DataObject) -> None:
    candidates, rankings = ballot
    number = data.draw(st.integers(0, len(rankings) - 1))
    id = data.draw(st.sampled_from(candidates))
    place = rankings[number].index(id) if id in rankings[number] else len(rankings[number])
    risen = [other for other in rankings[number] if other != id]
    risen.insert(data.draw(st.integers(0, place)), id)
    before = borda(candidates, rankings, len(candidates)).ids
    after = borda(candidates, [*rankings[:number], risen, *rankings[number + 1 :]], len(candidates)).ids
    assert after.index(id) <= (before.index(id) if id in before else len(before))


@pytest.mark.parametrize(
    ("rankings", "top_k", "consensus"),
    [
        (["ca"], 2, Consensus(("c", "a"), (3.0, 2.0), 0)),
        (["c"], 3, Consensus(("c",), (3.0,), 0)),  # the other candidates were not ranked, so none is added
        (["ab", "ba"], 2, Consensus(("a", "b"), (5.0, 5.0), 1)),
        (["ab", "ba"], 1, Consensus(("a",), (5.0,), 1)),  # the tie is across the cut
        (["bacd", "bdac", "cabd", "dabc"], 1, Consensus(("b",), (8.0,), 0)),
        (["bac", "bca", "cab", "acb"], 3, Consensus(("b", "a", "c"), (8.0, 8.0, 8.0), 2)),  # b was first twice
        (["bacd", "dacb"], 4, Consensus(("a", "b", "d", "c"), (4.0, 3.0, 3.0, 2.0), 1)),
        (
            ["dacb", "bacd", "cabd"],
            1,
            Consensus(("a",), (6.0,), 0),
        ),  # a is second in all passes; every pass has another first
        (["", "ab"], 2, Consensus(("a", "b"), (4.5, 3.5), 0)),
        ([], 2, Consensus((), (), 0)),
    ],
)
def test_borda_gives_known_results_for_small_ballots(rankings: list[str], top_k: int, consensus: Consensus) -> None:
    assert borda("abcd", rankings, top_k) == consensus


@pytest.mark.parametrize(("candidates", "ranking"), [("abc", "aba"), ("abc", "ax"), ("aab", "ab")])
@pytest.mark.parametrize("function", [lambda *ballot: borda(*ballot, 2), kendalls_w])
def test_rankings_that_name_other_candidates_are_refused(function, candidates: str, ranking: str) -> None:
    with pytest.raises(ContractError):
        function(candidates, [ranking, "b"])


@pytest.mark.parametrize(
    ("candidates", "rankings", "w"),
    [
        # Siegel, Nonparametric Statistics (1956), ch. 9: three executives rank six applicants; S = 25.5, W = .16.
        ("abcdef", ["adcfeb", "aefdbc", "fcbeda"], 25.5 / 157.5),
        # By hand: rank sums 2, 5.5, 5.5, 7; S = 13.5; two ties of two; W = 12 S / (4 * 60 - 2 * 12).
        ("abcd", ["ab", "ac"], 0.75),
        ("abcd", ["abcd", "dcba"], 0.0),
        ("abcd", ["dacb"] * 3, 1.0),
        ("abcd", ["d"] * 3, 1.0),
        ("abcd", ["ab", "", "ac"], 0.75),  # an abstention neither agrees nor disagrees
    ],
)
def test_kendalls_w_gives_known_results(candidates: str, rankings: list[str], w: float) -> None:
    assert kendalls_w(candidates, rankings) == pytest.approx(w, abs=1e-12)


@pytest.mark.parametrize(
    ("candidates", "rankings"), [("abc", []), ("abc", ["ab"]), ("abc", ["ab", ""]), ("abc", ["", ""]), ("a", ["a"] * 2)]
)
def test_kendalls_w_is_undefined_without_enough_rankings(candidates: str, rankings: list[str]) -> None:
    assert kendalls_w(candidates, rankings) is None


@given(ballots(least=2))
@settings(max_examples=50, deadline=None)
def test_kendalls_w_is_a_rescaled_friedman_statistic(ballot: Ballots) -> None:
    candidates, rankings = ballot
    w = kendalls_w(candidates, rankings)
    assert w is not None
    assert 0 <= w <= 1
    if len(candidates) > 2:  # scipy's least
        columns = [[r.index(id) if id in r else len(candidates) for r in rankings] for id in candidates]
        friedman = stats.friedmanchisquare(*columns).statistic
        assert w == pytest.approx(friedman / (len(rankings) * (len(candidates) - 1)), abs=1e-9)


@pytest.mark.parametrize("named", [1, 3, 14])
def test_kendalls_w_of_random_passes_is_one_over_their_number(named: int) -> None:
    rng = np.random.default_rng(0)
    candidates = list("abcdefghijklmn")
    assert kendalls_w(candidates, [list(rng.permutation(candidates)) for _ in range(300)]) < 0.01
    agreements = [
        kendalls_w(candidates, [list(rng.permutation(candidates)[:named]) for _ in range(4)]) for _ in range(400)
    ]
    assert np.mean(agreements) == pytest.approx(1 / 4, abs=0.02)


SHOWN = {
    "as many in all": np.full(600, 14),
    "a few, positions pooled": np.full(50, 14),
    "sizes that differ by one": np.repeat([13, 14], 150),
    "sizes far apart": np.repeat([1, 2, 5, 14], 100),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN.keys())
def test_the_bias_pvalue_of_a_fair_selector_is_uniform(shown: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    pvalues = np.array([position_bias_pvalue(rng.integers(shown), shown) for _ in range(400)])
    assert 0.025 < (pvalues < 0.05).mean() < 0.085
    assert 0.42 < (pvalues < 0.5).mean() < 0.58


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN.keys())
@pytest.mark.parametrize("end", ["first", "last"])
def test_a_position_biased_selector_is_detected(shown: np.ndarray, end: str) -> None:
    p = position_bias_pvalue(np.zeros_like(shown) if end == "first" else shown - 1, shown)
    assert p is not None
    assert p < 1e-6


def test_small_questions_do_not_hide_a_bias_in_large_questions() -> None:
    """Questions with two candidates pick one of the first two positions. Pearson's sum overrates their variance."""
    shown = np.repeat([2, 14], [1000, 200])
    rng = np.random.default_rng(2)
    leaning = rng.random(len(shown)) < 0.2
    picks = rng.integers(np.where(leaning, 2, shown))
    p = position_bias_pvalue(picks, shown)
    expected = np.array([(1 / shown[shown > place]).sum() for place in range(14)])
    assert p is not None
    assert p < 0.001 < stats.chisquare(np.bincount(picks, minlength=14), expected).pvalue


def test_with_questions_of_equal_size_the_bias_test_is_pearsons() -> None:
    picks = np.random.default_rng(3).integers(7, size=200, dtype=np.int32)
    assert position_bias_pvalue(picks, np.full(200, 7)) == pytest.approx(stats.chisquare(np.bincount(picks)).pvalue)
    pooled = np.bincount(picks[:30] // 2, minlength=4)
    pooled = np.array([*pooled[:2], pooled[2:].sum()])  # 30 / 7 is below 5: two and two, and the last one left over
    expected = 30 / 7 * np.array([2, 2, 3])
    assert position_bias_pvalue(picks[:30], np.full(30, 7)) == pytest.approx(stats.chisquare(pooled, expected).pvalue)


@pytest.mark.parametrize("shown", [np.full(29, 2), np.full(500, 1), np.repeat([1, 2], [500, 29]), np.full(0, 2)])
def test_the_bias_pvalue_needs_enough_questions(shown: np.ndarray) -> None:
    assert position_bias_pvalue(np.zeros_like(shown), shown) is None


def test_a_bias_test_with_one_cell_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.ranking.aggregation.LEAST_EXPECTED", 20.0)
    assert position_bias_pvalue(np.zeros(30, dtype=np.int64), np.full(30, 2)) is None


@pytest.mark.parametrize("pick", [-1, 3])
def test_a_pick_that_was_not_shown_is_refused(pick: int) -> None:
    with pytest.raises(ContractError, match="from 0"):
        position_bias_pvalue(np.array([0, pick]), np.array([3, 3]))


def test_a_bias_warning_appears_only_when_chance_is_unlikely() -> None:
    assert position_bias_warning(None) is None
    assert position_bias_warning(0.001) is None
    assert position_bias_warning(0.02) is None
    assert "p < 0.05" in (position_bias_warning(0.02, alpha=0.05) or "")
    assert "positions" in (position_bias_warning(0.0) or "")


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 13, 50])
def test_the_chance_of_a_higher_statistic_is_that_of_scipy(freedom: int) -> None:
    for statistic in (0.0, 1e-9, 0.5, 3.0, 20.0, 120.0, 900.0):
        assert aggregation._chance_of_more(statistic, freedom) == pytest.approx(chdtrc(freedom, statistic), rel=1e-12)
