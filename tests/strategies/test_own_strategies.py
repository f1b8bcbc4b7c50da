"""What holds for every strategy that needs no model, and no weights of one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm import cancellation
from selectllm.errors import Stopped, UsageError
from selectllm.schemas import PREFERENCES
from selectllm.strategies import OWN, load_strategy
from selectllm.strategies.refused import REFUSED
from tests.strategies.data import choice_of, drawn, named

NAMES = [name for name in OWN if "model" not in load_strategy(name).needs and not name.startswith("perplexity")]
GREEDY = [name for name in NAMES if load_strategy(name).is_greedy]


def test_these_are_all() -> None:
    floors = ["random", "longest", "shortest"]
    rivals = ["stratified", "kcenter", "facility", "probcover", "novelselect", "rouge-diversity"]
    assert floors + rivals == NAMES
    assert GREEDY == ["kcenter", "facility", "probcover", "novelselect"]
    assert all(load_strategy(name).source for name in NAMES if name != "random")


@pytest.mark.parametrize("name", NAMES)
def test_all_rows_are_named_once_where_all_are_wanted(name: str) -> None:
    vectors = drawn(40)
    table = load_strategy(name).prefer(choice_of(vectors, 40))
    assert table.schema == PREFERENCES
    assert sorted(int(id, 16) for id in table["id"].to_pylist()) == list(range(40))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_pools(name: str, rows: int) -> None:
    assert sorted(named(name, choice_of(drawn(rows), rows))) == list(range(rows))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_file_does_not_matter(name: str) -> None:
    vectors = drawn(60, dimension=6)
    order = np.random.default_rng(1).permutation(60).tolist()
    expected = named(name, choice_of(vectors, 20, excluded=(3, 4)))
    assert named(name, choice_of(vectors, 20, excluded=(3, 4), order=order)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_where_it_is_said_to(name: str) -> None:
    vectors = drawn(200, dimension=6)
    texts = [" ".join(np.random.default_rng(row).choice(list("abcdefghij"), 8)) for row in range(200)]
    first, again, other = (named(name, choice_of(vectors, 30, seed=seed, texts=texts)) for seed in (0, 0, 1))
    assert again == first
    if name in ("random", "stratified", "novelselect"):
        assert other != first
    if not load_strategy(name).is_seeded:
        assert other == first


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_strategies_name_what_is_wanted_and_no_excluded_row(name: str) -> None:
    rows = named(name, choice_of(drawn(50), 10, excluded=tuple(range(0, 50, 2))))
    assert len(rows) == len(set(rows)) == 10
    assert all(row % 2 for row in rows)


@pytest.mark.parametrize("name", GREEDY)
def test_fewer_wanted_rows_are_the_first_of_more(name: str) -> None:
    vectors = drawn(80, dimension=8)
    assert named(name, choice_of(vectors, 25))[:10] == named(name, choice_of(vectors, 10))


@pytest.mark.parametrize("name", NAMES)
def test_rows_with_one_vector_are_all_named_once(name: str) -> None:
    same = np.tile(drawn(1, dimension=8), (30, 1))
    rows = named(name, choice_of(same, 12))
    assert len(set(rows)) == len(rows) >= 12


@pytest.mark.parametrize("name", ["kcenter", "facility"])
def test_of_equal_rows_the_lowest_id_is_picked(name: str) -> None:
    vectors = np.repeat(np.eye(5, dtype=np.float32), 4, axis=0)
    assert sorted(named(name, choice_of(vectors, 5))) == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("name", ["stratified", *GREEDY])
def test_vectors_of_zeros_do_no_harm(name: str) -> None:
    vectors = drawn(20)
    vectors[[2, 3, 11]] = 0
    assert sorted(named(name, choice_of(vectors, 20))) == list(range(20))


@pytest.mark.parametrize("name", ["stratified", "rouge-diversity", *GREEDY])
def test_a_cancelled_run_stops(name: str) -> None:
    cancellation.cancel()
    with pytest.raises(Stopped):
        named(name, choice_of(drawn(30), 5))


@pytest.mark.parametrize("name", ["rouge-diversity", *GREEDY])
def test_progress_ends_with_all_that_is_wanted(name: str) -> None:
    choice = choice_of(drawn(30), 5)
    named(name, choice)
    step, done, total = choice.noted[-1]
    assert (step, done) == ("preferences", total)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 30),
    budget=st.integers(1, 30),
    seed=st.integers(0, 9),
    excluded=st.sets(st.integers(0, 29), max_size=15),
    name=st.sampled_from(GREEDY),
)
def test_any_pool_gives_as_many_different_allowed_rows_as_there_can_be(
    rows: int, budget: int, seed: int, excluded: set[int], name: str
) -> None:
    vectors = drawn(rows, seed, dimension=3)
    vectors[: rows // 3] = vectors[0]  # repeats
    out = tuple(row for row in excluded if row < rows)
    found = named(name, choice_of(vectors, budget, excluded=out))
    assert len(set(found)) == len(found) == min(budget, rows - len(out))
    assert not set(found) & set(out)


@pytest.mark.parametrize("name", ["ifd", "less", "nuggets", "superfiltering", "cherry", "IFD"])
def test_methods_that_need_answers_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=rf"there is no strategy '{name}': it .* before it is annotated\. .*use "):
        load_strategy(name)


def test_each_refusal_names_a_strategy_that_there_is() -> None:
    for text in REFUSED.values():
        assert any(name in text for name in OWN)
        assert len(text) < 250
    assert not set(REFUSED) & set(OWN)
