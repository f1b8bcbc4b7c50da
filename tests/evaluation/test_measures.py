"""All measures together, and what they are given."""

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from selectllm.errors import ContractError
from selectllm.evaluation.measured import Measured, chosen_rows
from selectllm.evaluation.measures import MEASURES, OTHERS, Value, cluster_rows, measure_all
from tests.evaluation.pools import drawn, pool_of, preferences_of, rows_of

TEXTS = [
    "Write a poem",
    "Напиши стихи",
    "写一首诗",
    "कविता लिखो",
    "?!",
    "",
    "Write a poem",
    "a",
    "Add 2 and 2",
    "x" * 5000,
]


def everything(chosen: list[int], seed: int = 0) -> Measured:
    return Measured(
        pool_of(TEXTS, [*TEXTS[1:], None]),
        rows_of(chosen),
        drawn(10, 3),
        preferences_of([str(row) for row in range(10)]),
        np.arange(10) % 2.0,
        seed=seed,
    )


def test_every_measure_says_what_it_rewards_and_how_it_is_gamed() -> None:
    for name, about in (MEASURES | OTHERS).items():
        assert about.name == name
        for line in (about.rewards, about.gamed_by):
            assert re.fullmatch(r"[A-Z][^\n|]{10,140}[^.]", line), line
    names = Counter(name for about in (MEASURES | OTHERS).values() for name in about.values)
    assert max(names.values()) == 1


@pytest.mark.parametrize("chosen", [[3], [0, 6], [5, 4], list(range(10)), [9, 1, 4, 2]])
def test_every_value_is_a_finite_number_or_has_a_reason(chosen: list[int]) -> None:
    values = measure_all(everything(chosen))
    assert [value.name for value in values] == [name for measure in MEASURES.values() for name in measure.values]
    for value in values:
        assert (value.value is None) == (value.reason is not None)
        assert value.value is None or (type(value.value) is float and np.isfinite(value.value)), value


def test_equal_arguments_give_equal_values() -> None:
    assert measure_all(everything([1, 2, 8], seed=4)) == measure_all(everything([1, 2, 8], seed=4))


def test_the_order_of_a_selection_does_not_matter() -> None:
    for one, other in zip(measure_all(everything([1, 2, 8])), measure_all(everything([8, 1, 2])), strict=True):
        assert one.value == (None if other.value is None else pytest.approx(other.value, rel=1e-5))


def test_measures_without_what_they_need_say_so() -> None:
    values = measure_all(Measured(pool_of(TEXTS), rows_of([0, 3])), ["vendi", "distinct", "auc"])
    assert values[0] == Value(MEASURES["vendi"], "vendi", None, "there are no vectors")
    assert values[1].value is not None
    assert {value.reason for value in values[3:]} == {"there are no labels and no preferences"}


def test_clusters_found_once_give_the_same_values() -> None:
    measured = everything([1, 2, 8], seed=5)
    assert measured.vectors is not None
    clusters = cluster_rows(measured.vectors, 5)
    given = Measured(measured.pool, measured.chosen, measured.vectors, clusters=clusters)
    assert measure_all(given, ["cluster_entropy"]) == measure_all(measured, ["cluster_entropy"])


def test_chosen_rows_are_found_by_id_in_the_order_of_the_selection() -> None:
    pool = pool_of(TEXTS)
    assert chosen_rows(pool, pa.table({"id": ["7", "0"]})).tolist() == [7, 0]
    with pytest.raises(ContractError, match="the row z, and the pool has not"):
        chosen_rows(pool, pa.table({"id": ["7", "z"]}))


@pytest.mark.parametrize(
    ("chosen", "others", "message"),
    [
        ([], {}, "without rows"),
        ([0, 0], {}, "different numbers from 0 to 9"),
        ([10], {}, "different numbers"),
        ([-1], {}, "different numbers"),
        ([0], {"vectors": drawn(9)}, "vectors of 9"),
        ([0], {"labels": np.zeros(3)}, "labels of 3"),
        ([0], {"vectors": 2 * drawn(10)}, "unit length"),
        ([0], {"vectors": np.full((10, 2), np.nan, dtype=np.float32)}, "finite"),
    ],
)
def test_what_does_not_fit_together_is_not_measured(chosen: list[int], others: dict, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        Measured(pool_of(TEXTS), rows_of(chosen), **others)
