"""Measures of diversity: the Vendi score, NovelSum, distinct-n, near-duplicates; and lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.evaluation import measured as module
from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures import Missing
from selectllm.evaluation.measures import novelsum as novel
from selectllm.evaluation.measures.distinct import distinct
from selectllm.evaluation.measures.length import length
from selectllm.evaluation.measures.near_duplicates import near_duplicate_share
from selectllm.evaluation.measures.novelsum import novelsum
from selectllm.evaluation.measures.vendi import vendi
from selectllm.queries import Vectors
from selectllm.ranking.novelty import Novelty, density, weights
from tests.evaluation.pools import drawn, measured_of, pool_of, rows_of


def vendi_by_its_formula(vectors: Vectors) -> float:
    exact = vectors.astype(np.float64)
    kernel = exact @ exact.T / len(exact)
    eigenvalues = np.linalg.eigvalsh(kernel)
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


@pytest.mark.parametrize(("rows", "dimension"), [(1, 4), (3, 8), (8, 8), (60, 8), (200, 3)])
def test_vendi_is_the_formula(rows: int, dimension: int) -> None:
    vectors = drawn(rows, dimension)
    assert vendi(measured_of(vectors, range(rows)))["vendi"] == pytest.approx(vendi_by_its_formula(vectors), rel=1e-6)


def test_vendi_counts_different_rows() -> None:
    different = np.eye(6, dtype=np.float32)
    assert vendi(measured_of(different, range(6)))["vendi"] == pytest.approx(6)
    assert vendi(measured_of(different.repeat(9, axis=0), range(54)))["vendi"] == pytest.approx(6)
    assert vendi(measured_of(different[:1].repeat(9, axis=0), range(9)))["vendi"] == pytest.approx(1)


def novelsum_by_its_formula(vectors: Vectors, chosen: list[int], neighbours: int) -> float:
    exact = vectors.astype(np.float64)
    density = {}
    for row in chosen:
        near = sorted(1 - exact[row] @ exact[other] for other in range(len(exact)) if other != row)[:neighbours]
        density[row] = 1 / np.mean(near)
    novelties = []
    for row in chosen:
        others = sorted((1 - exact[row] @ exact[other], other) for other in chosen if other != row)
        ranks = [1 / place for place in range(1, len(others) + 1)]
        novelties.append(np.average([far * density[other] ** 0.5 for far, other in others], weights=ranks))
    return float(np.mean(novelties))


@pytest.mark.parametrize("cells", [1, 100, 2**22])
@pytest.mark.parametrize("chosen", [[0, 5], [30, 2, 17, 9, 4], list(range(40))])
def test_novelsum_is_the_formula(cells: int, chosen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novel, "CELLS", cells)
    vectors = drawn(40)
    expected = novelsum_by_its_formula(vectors, chosen, 10)
    assert novelsum(measured_of(vectors, chosen))["novelsum"] == pytest.approx(expected, rel=1e-4)


def test_fewer_neighbours_than_wanted_are_enough() -> None:
    vectors = drawn(4)
    expected = novelsum_by_its_formula(vectors, [0, 1, 2], 10)
    assert novelsum(measured_of(vectors, [0, 1, 2]))["novelsum"] == pytest.approx(expected, rel=1e-4)


def test_novelsum_is_the_mean_of_what_novelselect_goes_by() -> None:
    vectors, chosen = drawn(60, 8), [3, 8, 21, 40, 59]
    counts = weights(vectors, vectors)
    novelties = []
    for row in chosen:
        beside = Novelty(vectors, counts)
        for other in chosen:
            if other != row:
                beside.add(other)
        novelties.append(beside.values()[row])
    scale = sum(1 / rank for rank in range(1, len(chosen)))
    assert novelsum(measured_of(vectors, chosen))["novelsum"] == pytest.approx(np.mean(novelties) / scale, rel=1e-5)


def test_repeats_in_the_pool_do_not_make_it_dense() -> None:
    vectors = drawn(30, 16)
    repeated = np.concatenate([vectors, vectors[:1].repeat(20, axis=0)])
    assert density(vectors[:1], repeated) == pytest.approx(density(vectors[:1], vectors))


def test_equal_rows_are_not_novel() -> None:
    vectors = drawn(1, 384).repeat(5, axis=0)
    assert novelsum(measured_of(vectors, [0, 1, 2]))["novelsum"] == pytest.approx(0, abs=1e-6)


def test_one_row_has_no_novelsum() -> None:
    assert novelsum(measured_of(drawn(5), [2])) == {"novelsum": Missing("one chosen row is novel to no other")}


def texts(*instructions: str) -> Measured:
    return Measured(pool_of(instructions), rows_of(range(len(instructions))))


def test_distinct_counts_words_and_pairs_within_rows() -> None:
    # a b a | b c: of 5 words 3 are different; of the pairs ab, ba, bc all are
    assert distinct(texts("a b a", "B, c")) == {"distinct_1": 3 / 5, "distinct_2": 1.0}


def test_distinct_reads_the_input_too() -> None:
    pool = pool_of(["a"]).set_column(3, "input", [["b a"]])
    assert distinct(Measured(pool, rows_of([0])))["distinct_1"] == 2 / 3


@pytest.mark.parametrize(("text", "share"), [("春春天", 2 / 3), ("да да нет", 2 / 3), ("मैं मैं", 1 / 2)])
def test_distinct_reads_all_scripts(text: str, share: float) -> None:
    assert distinct(texts(text))["distinct_1"] == pytest.approx(share)


def test_texts_without_words_have_no_distinct() -> None:
    none, no_pair = Missing("the chosen rows have no words"), Missing("no chosen row has 2 words")
    assert distinct(texts("?!", "…")) == {"distinct_1": none, "distinct_2": no_pair}
    assert distinct(texts("one", "two")) == {"distinct_1": 1.0, "distinct_2": no_pair}


def test_near_duplicates_are_counted_on_both_sides() -> None:
    angles = np.radians([0, 10, 90, 200])  # cos 10° = 0.985
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert near_duplicate_share(measured_of(vectors, [0, 1, 2, 3])) == {"near_duplicate_share": 0.5}
    assert near_duplicate_share(measured_of(vectors, [0, 2, 3])) == {"near_duplicate_share": 0.0}


def test_a_cosine_of_the_limit_itself_is_a_near_duplicate() -> None:
    vectors = np.array([[1, 0], [0.95, np.sqrt(1 - 0.95**2)]], dtype=np.float32)
    assert near_duplicate_share(measured_of(vectors, [0, 1])) == {"near_duplicate_share": 1.0}


@pytest.mark.parametrize("block", [2, 1024])
def test_near_duplicates_do_not_depend_on_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    vectors = drawn(50, 3)
    cosines = vectors @ vectors.T - 2 * np.eye(50)
    expected = (cosines.max(axis=1) >= 0.95).mean()
    assert 0 < expected < 1
    assert near_duplicate_share(measured_of(vectors, range(50)))["near_duplicate_share"] == expected


def test_one_row_has_no_near_duplicate() -> None:
    assert near_duplicate_share(measured_of(drawn(3), [1])) == {"near_duplicate_share": 0.0}


def test_lengths_are_of_instruction_and_input_in_characters() -> None:
    pool = pool_of(["é" * number for number in range(1, 11)]).set_column(3, "input", [["日本"] + [None] * 9])
    chosen = rows_of([0, 3, 9])  # 3, 4 and 10 characters
    expected = {"length_mean": 17 / 3, "length_median": 4, "length_p10": 3.2, "length_p90": 8.8}
    assert length(Measured(pool, chosen)) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 25), st.integers(1, 6), st.integers(0, 1000))
def test_values_stay_within_their_bounds_and_ignore_the_order(count: int, dimension: int, seed: int) -> None:
    vectors = drawn(30, dimension, seed)
    chosen = np.random.default_rng(seed).permutation(30)[:count]
    one, other = measured_of(vectors, chosen.tolist()), measured_of(vectors, chosen[::-1].tolist())
    assert 1 - 1e-6 <= vendi(one)["vendi"] <= min(count, dimension) + 1e-6
    assert vendi(one)["vendi"] == pytest.approx(vendi(other)["vendi"])
    assert 0 <= near_duplicate_share(one)["near_duplicate_share"] <= 1
    assert near_duplicate_share(one) == near_duplicate_share(other)
    if count > 1:
        assert novelsum(one)["novelsum"] == pytest.approx(novelsum(other)["novelsum"], abs=1e-5)
        assert novelsum(one)["novelsum"] >= 0
