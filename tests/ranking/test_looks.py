"""Further looks: how many, about which rows, and together with which others."""

import numpy as np
import pytest

from selectllm.ranking.looks import DOUBT, deal, questions_by_round, rows_in_doubt
from selectllm.ranking.ratings import Answer, Answers, chances_of_error, rate


@pytest.mark.parametrize("total", [0, 1, 2, 3, 7, 10, 200, 999])
def test_the_rounds_ask_all_questions_and_the_first_the_most(total: int) -> None:
    rounds = questions_by_round(total)
    assert (len(rounds), sum(rounds)) == (4, total)
    assert min(rounds) >= 0
    assert rounds[0] == max(rounds)


def test_rows_are_dealt_once_to_queries_of_equal_size() -> None:
    queries = deal(np.zeros(23, dtype=np.int64), [()] * 23, 5, np.random.default_rng(0))
    assert sorted(row for query in queries for row in query) == list(range(23))
    assert sorted(map(len, queries)) == [4, 4, 5, 5, 5]


def test_rows_that_have_met_are_dealt_apart() -> None:
    met = [(row // 6, -1 - row % 3) for row in range(600)]  # a hundred queries of six, and three looks of 200
    by_query_alone = [questions[:1] for questions in met]
    for seed in range(20):
        queries = deal(np.zeros(600, dtype=np.int64), by_query_alone, 6, np.random.default_rng(seed))
        again = sum(len(query) - len({row // 6 for row in query}) for query in queries)
        assert again <= 2, "by chance it would be about fifteen"
    crowded = deal(np.zeros(600, dtype=np.int64), met, 6, np.random.default_rng(0))  # three rows at most have not met
    assert sorted(row for query in crowded for row in query) == list(range(600))


def test_the_rows_of_a_cluster_are_spread_over_the_queries() -> None:
    clusters = np.repeat(np.arange(4), 10)
    for query in deal(clusters, [()] * 40, 4, np.random.default_rng(1)):
        assert sorted(clusters[query]) == [0, 1, 2, 3]


def test_dealing_depends_on_the_seed_alone() -> None:
    clusters = np.arange(30) % 7
    dealt = [deal(clusters, [(row,) for row in range(30)], 6, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert dealt[0] == dealt[1] != dealt[2]


def test_settled_rows_are_not_in_doubt() -> None:
    settled = rate(6, Answers.of([Answer((0, 1), (2, 3, 4, 5))] * 100 + [Answer((0,), (1,))] * 100))
    assert rows_in_doubt(settled, 1, 6).tolist() == []
    assert rows_in_doubt(settled, 2, 6).tolist() == []
    assert set(rows_in_doubt(settled, 4, 6).tolist()) == {2, 3, 4, 5}, "nothing tells these apart"
    assert rows_in_doubt(settled, 6, 6).tolist() == [], "all are taken"


def test_the_rows_in_doubt_are_ordered_by_what_a_question_tells() -> None:
    answers = [Answer((row,), (row + 1,)) for row in range(9)] * 2 + [Answer((4,), (5,))] * 30
    rated = rate(10, Answers.of(answers))
    rows = rows_in_doubt(rated, 5, 6)
    assert set(rows.tolist()) == set(np.flatnonzero(chances_of_error(rated, 5) > DOUBT).tolist())
    distances = np.abs(rated.ratings[rows] - (rated.ratings[4] + rated.ratings[5]) / 2)
    assert distances[0] < distances[-1]
