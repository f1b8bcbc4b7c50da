"""Measures of two selections, and the cost of one."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.errors import ContractError
from selectllm.evaluation.measures import OTHERS, Missing, agreement_of, as_values, cost_of, overlap_of
from selectllm.evaluation.measures.overlap import jaccard_by_chance
from selectllm.settings import RankingSettings
from selectllm.store.runs import StepRecord
from tests.evaluation.pools import preferences_of


@pytest.mark.parametrize(("first", "second", "rows"), [(2, 3, 6), (1, 1, 5), (4, 4, 5), (5, 5, 5), (0, 2, 4)])
def test_chance_is_the_mean_over_all_pairs_of_selections(first: int, second: int, rows: int) -> None:
    pairs = [
        len(set(one) & set(other)) / len(set(one) | set(other))
        for one in combinations(range(rows), first)
        for other in combinations(range(rows), second)
    ]
    assert jaccard_by_chance(first, second, rows) == pytest.approx(np.mean(pairs))


def test_overlap_is_jaccard_and_its_ratio_to_chance() -> None:
    values = overlap_of(["a", "b", "c"], ["b", "c", "d"], 1000)
    assert values["jaccard"] == 0.5
    assert values["jaccard_to_chance"] == pytest.approx(0.5 / jaccard_by_chance(3, 3, 1000))
    assert overlap_of(["a", "b"], ["b", "a"], 2) == {"jaccard": 1.0, "jaccard_to_chance": pytest.approx(1.0)}
    assert overlap_of(["a"], ["b"], 9) == {"jaccard": 0.0, "jaccard_to_chance": 0.0}


def test_empty_selections_have_no_overlap() -> None:
    assert overlap_of(["a"], [], 9) == {"jaccard": 0.0, "jaccard_to_chance": Missing("a selection is empty")}
    assert set(overlap_of([], [], 9).values()) == {Missing("both selections are empty")}


def test_a_selection_is_not_larger_than_its_pool() -> None:
    with pytest.raises(ContractError, match="no selection of 3"):
        overlap_of(["a", "b", "c"], ["a"], 2)


@settings(deadline=None)
@given(st.permutations(range(8)), st.permutations(range(8)), st.integers(1, 10))
def test_agreement_is_tau_over_common_rows_and_the_common_share_of_the_first(
    one: list[int], other: list[int], top: int
) -> None:
    first, second = [str(row) for row in one], [str(row) for row in other[:6]]
    common = [row for row in first if row in second]
    signs = [np.sign(second.index(b) - second.index(a)) for a, b in combinations(common, 2)]
    count = min(top, 6)
    values = agreement_of(preferences_of(first), preferences_of(second), top)
    assert values["kendalls_tau"] == pytest.approx(np.mean(signs))
    assert values["top_overlap"] == len(set(first[:count]) & set(second[:count])) / count


def test_agreement_of_rows_that_are_not_common_is_missing() -> None:
    values = agreement_of(preferences_of(["a", "b"]), preferences_of(["b", "c"]), 2)
    assert values == {"kendalls_tau": Missing("fewer than two rows have a place in both"), "top_overlap": 0.5}
    values = agreement_of(preferences_of(["a"]), preferences_of([]), 2)
    assert values["top_overlap"] == Missing("one of them places no row")


def step(kind: str, **values: object) -> StepRecord:
    return StepRecord.model_validate({"kind": kind, "key": kind} | values)


ASKED = {"replies": 10, "prompt_tokens": 1000, "output_tokens": 50}


def test_cost_sums_what_steps_counted_whoever_paid() -> None:
    steps = {
        "pool": step("pool", seconds=1.0, facts={"kept": 5}),
        "rankings": step("rankings", seconds=2.0, facts=ASKED),
        "looks": step("looks", seconds=0.5, facts=ASKED | {"replies": 3}),
    }
    prices = RankingSettings(price_in=2, price_out=10)
    expected = {"questions": 13, "prompt_tokens": 2000, "output_tokens": 100, "cost": 0.005, "seconds": 3.5}
    assert cost_of(steps, prices) == pytest.approx(expected)


def test_cost_without_model_prices_or_time() -> None:
    values = cost_of({"pool": step("pool", cached=True)}, RankingSettings())
    assert values["questions"] == values["prompt_tokens"] == 0
    assert values["cost"] == Missing("there are no prices")
    assert values["seconds"] == Missing("in the store already: pool")


def test_values_of_functions_are_listed_like_those_of_measures() -> None:
    found = as_values(OTHERS["overlap"], overlap_of(["a"], [], 9))
    assert [(value.name, value.value, value.reason) for value in found] == [
        ("jaccard", 0.0, None),
        ("jaccard_to_chance", None, "a selection is empty"),
    ]
