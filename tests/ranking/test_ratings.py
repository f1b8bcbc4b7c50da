"""Ratings from answers: their exact values, and what they do not depend on."""

import numpy as np
import pytest
from scipy.optimize import minimize

from selectllm.ranking.ratings import NOISE, Answer, Answers, best, chances_of_error, rate


def drawn_answers(rows: int, count: int, seed: int) -> list[Answer]:
    """Answers of a judge that goes by the rows' numbers, with noise, about five rows each."""
    rng = np.random.default_rng(seed)
    answers = []
    for _ in range(count):
        shown = rng.choice(rows, 5, replace=False)
        order = shown[np.argsort(-(shown / rows + rng.gumbel(size=5) / 4))].tolist()
        depth = int(rng.integers(1, 6))
        answers.append(Answer(tuple(order[:depth]), tuple(order[depth:])))
    return answers


def loss(worths: np.ndarray, answers: list[Answer]) -> float:
    """The negative logarithm of the posterior, by its definition."""
    total = float(worths @ worths) / 2
    for answer in answers:
        shown = [*answer.ranked, *answer.unranked]
        for place, row in enumerate(answer.ranked):
            left = worths[shown[place:]] / NOISE
            total += float(np.log(np.exp(left).sum()) - worths[row] / NOISE)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_ratings_are_the_most_probable_worths_and_spreads_are_laplaces(seed: int) -> None:
    answers = drawn_answers(12, 40, seed)
    rated = rate(12, Answers.of(answers))
    found = minimize(loss, np.zeros(12), args=(answers,), tol=1e-10)
    np.testing.assert_allclose(rated.ratings, found.x, atol=1e-4)
    step = 1e-3
    bends = [
        (loss(found.x + move, answers) - 2 * loss(found.x, answers) + loss(found.x - move, answers)) / step**2
        for move in np.eye(12) * step
    ]
    np.testing.assert_allclose(rated.spreads, 1 / np.sqrt(bends), rtol=1e-3)


def test_ratings_do_not_depend_on_the_order_of_the_answers() -> None:
    answers = drawn_answers(30, 200, 1)
    shuffled = [answers[place] for place in np.random.default_rng(2).permutation(200)]
    rated, again = rate(30, Answers.of(answers)), rate(30, Answers.of(shuffled))
    assert (rated.ratings == again.ratings).all()
    assert (rated.spreads == again.spreads).all()
    assert (rated.answers == again.answers).all()


def test_a_row_without_an_answer_has_the_mean_rating_and_the_whole_spread() -> None:
    rated = rate(4, Answers.of([Answer((0,), (1, 2))]))
    assert (rated.ratings[3], rated.spreads[3]) == (0, 1)
    assert rated.answers.tolist() == [1, 1, 1, 0]
    nothing = rate(2, Answers.of([Answer((0,)), Answer((), (0, 1))]))  # neither compares rows
    assert (nothing.ratings.tolist(), nothing.answers.tolist()) == ([0, 0], [0, 0])
    assert len(rate(0, Answers.of([])).ratings) == 0


def test_each_rank_counts_and_rows_left_out_are_equal() -> None:
    first, second, third, *left = rate(6, Answers.of([Answer((0, 1, 2), (3, 4, 5))])).ratings
    assert first > second > third > left[0]
    assert left == [left[0]] * 3


def test_more_answers_narrow_the_spread() -> None:
    answer = Answer((0, 1), (2,))
    once, often = rate(3, Answers.of([answer])), rate(3, Answers.of([answer] * 20))
    assert (often.spreads < once.spreads).all()


def test_consistent_answers_put_rows_in_their_order_however_far_apart_they_are() -> None:
    pairs = [Answer((row,), (row + 1,)) for row in range(49)]
    rated = rate(50, Answers.of(pairs * 200))
    assert best(rated, 50).tolist() == list(range(50))
    assert np.isfinite(rated.ratings).all()


def test_as_many_rows_as_the_budget_are_expected_to_be_worth_it() -> None:
    rated = rate(40, Answers.of(drawn_answers(40, 100, 3)))
    errors = chances_of_error(rated, 10)
    taken = best(rated, 10)
    worth = errors.copy()
    worth[taken] = 1 - worth[taken]
    assert worth.sum() == pytest.approx(10)
    assert errors[taken].sum() == pytest.approx(np.delete(errors, taken).sum())
    assert not chances_of_error(rated, 40).any()
