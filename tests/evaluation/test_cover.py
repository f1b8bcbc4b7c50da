"""Measures of cover: facility location, the k-center radius, the coverage proxy and cluster entropy."""

from math import log

import numpy as np
import pytest

from selectllm.evaluation import measured as module
from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures import Missing, cluster_rows
from selectllm.evaluation.measures import coverage_proxy as proxy
from selectllm.evaluation.measures.cluster_entropy import cluster_entropy
from selectllm.evaluation.measures.coverage_proxy import coverage_proxy
from selectllm.evaluation.measures.facility_location import facility_location
from selectllm.evaluation.measures.k_center import k_center_radius
from tests.evaluation.pools import drawn, measured_of, pool_of, rows_of


@pytest.fixture(params=[3, 1024])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("chosen", [[4], [1, 30, 7], list(range(40))])
def test_cover_is_by_the_nearest_chosen_row(chosen: list[int]) -> None:
    vectors = drawn(40)
    exact = vectors.astype(np.float64)
    nearest = [max(float(row @ exact[number]) for number in chosen) for row in exact]
    farthest = max(min(float(np.linalg.norm(row - exact[number])) for number in chosen) for row in exact)
    measured = measured_of(vectors, chosen)
    assert facility_location(measured)["facility_location"] == pytest.approx(np.mean(nearest), abs=1e-6)
    assert k_center_radius(measured)["k_center_radius"] == pytest.approx(farthest, abs=1e-3)


def test_all_rows_cover_themselves_exactly() -> None:
    measured = measured_of(drawn(40, 384), range(40))
    assert facility_location(measured) == {"facility_location": 1.0}
    assert k_center_radius(measured) == {"k_center_radius": 0.0}


def test_equal_rows_are_covered_exactly_by_one_of_them() -> None:
    measured = measured_of(drawn(1, 384).repeat(5, axis=0), [3])
    assert facility_location(measured) == {"facility_location": 1.0}
    assert k_center_radius(measured) == {"k_center_radius": 0.0}


def test_opposite_rows_are_at_the_ends_of_the_scales() -> None:
    measured = measured_of(np.array([[1, 0], [-1, 0]], dtype=np.float32), [0])
    assert facility_location(measured) == {"facility_location": 0.0}
    assert k_center_radius(measured) == {"k_center_radius": 2.0}


def answered(outputs: list[str | None], chosen: list[int], angles: list[float]) -> Measured:
    vectors = np.array([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=np.float32)
    return Measured(pool_of(["Task"] * len(outputs), outputs), rows_of(chosen), vectors)


def test_the_proxy_compares_answers_with_those_of_the_nearest_chosen_rows() -> None:
    measured = answered(["a b c d", "a x c", "p q", "p", None], [0, 2], [0, 0.1, 1.5, 1.4, 0.7])
    both = 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)  # a and c: of 3 words, and of 4
    half = 2 * 1 * 0.5 / 1.5  # p
    assert coverage_proxy(measured)["coverage_proxy"] == pytest.approx((1 + both + 1 + half) / 4)


@pytest.mark.parametrize(
    ("own", "other", "score"),
    [
        ("сделай это сейчас", "сделай это потом", 2 / 3),
        ("春天来了", "秋天来了", 3 / 4),
        ("हिन्दी में लिखो", "हिन्दी में पढ़ो", 2 / 3),
        ("คำ", "คำ", 1.0),
        ("ABC", "abc!", 1.0),
    ],
)
def test_the_proxy_reads_all_scripts(own: str, other: str, score: float) -> None:
    measured = answered([own, other], [0], [0, 0])
    assert coverage_proxy(measured)["coverage_proxy"] == pytest.approx((1 + score) / 2)


def test_a_chosen_row_stands_for_itself_where_an_equal_one_was_chosen_too() -> None:
    assert coverage_proxy(answered(["a", "b"], [0, 1], [0, 0])) == {"coverage_proxy": 1.0}


@pytest.mark.parametrize(
    ("outputs", "chosen", "who"),
    [
        ([None, None], [0], "rows of the pool"),
        (["", "  \n"], [0], "rows of the pool"),
        (["?!", "..."], [0], "rows of the pool"),
        ([None, "an answer"], [0], "chosen rows"),
    ],
)
def test_without_answers_there_is_no_proxy(outputs: list[str | None], chosen: list[int], who: str) -> None:
    missing = Missing(f"the {who} have no answers in words")
    assert coverage_proxy(answered(outputs, chosen, [0, 1])) == {"coverage_proxy": missing}


def test_the_proxy_draws_rows_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "SAMPLE", 3)
    pool = pool_of(["Task"] * 50, [f"{number % 7} {number % 3} {number}" for number in range(50)])
    values = [coverage_proxy(Measured(pool, rows_of([0, 9]), drawn(50), seed=seed)) for seed in (0, 0, 1, 2)]
    assert values[0] == values[1]
    assert len({value["coverage_proxy"] for value in values}) > 1


def test_the_proxy_reads_the_first_words_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "WORDS", 2)
    measured = answered(["a b c", "a b d"], [0], [0, 0])
    assert coverage_proxy(measured) == {"coverage_proxy": 1.0}


def grouped(sizes: list[int]) -> np.ndarray:
    return np.eye(len(sizes), dtype=np.float32).repeat(sizes, axis=0)


def test_cluster_entropy_is_that_of_the_shares() -> None:
    measured = measured_of(grouped([4, 4, 4, 4]), [0, 1, 2, 4])
    expected = -(0.75 * log(0.75) + 0.25 * log(0.25)) / log(4)
    assert cluster_entropy(measured)["cluster_entropy"] == pytest.approx(expected)


def test_cluster_entropy_goes_from_0_to_1() -> None:
    assert cluster_entropy(measured_of(grouped([4, 4, 4, 4]), [0, 4, 8, 12])) == {"cluster_entropy": 1.0}
    assert cluster_entropy(measured_of(grouped([4, 4, 4, 4]), [0, 1])) == {"cluster_entropy": 0.0}
    assert cluster_entropy(measured_of(grouped([4, 4, 4, 4]), [0])) == {"cluster_entropy": 0.0}


@pytest.mark.parametrize("vectors", [drawn(1), drawn(1).repeat(30, axis=0)])
def test_one_cluster_has_no_entropy(vectors: np.ndarray) -> None:
    missing = Missing("all rows of the pool are in one cluster")
    assert cluster_entropy(measured_of(vectors, [0])) == {"cluster_entropy": missing}


def test_clusters_that_are_given_are_taken() -> None:
    measured = Measured(pool_of(["a", "b", "c"]), rows_of([0, 2]), clusters=rows_of([5, 5, 9]))
    assert cluster_entropy(measured) == {"cluster_entropy": 1.0}


def test_clusters_are_those_of_the_seed() -> None:
    vectors = drawn(400, 8)
    assert (cluster_rows(vectors, 3) == cluster_rows(vectors, 3)).all()
    assert len(np.unique(cluster_rows(vectors, 3))) == 20
