"""The shortlist near to examples: exact values, and the same as comparing every row with every example at each turn."""

import numpy as np
import pytest

from selectllm.ranking import targets
from selectllm.ranking.targets import deal, nearness


def unit(rows: object) -> np.ndarray:
    array = np.array(rows, dtype=np.float32)
    result: np.ndarray = array / np.linalg.norm(array, axis=1, keepdims=True)
    return result


def test_examples_take_turns_and_each_takes_its_nearest_row() -> None:
    rows = unit([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [1, 1]])
    dealt = deal(rows, unit([[1, 0], [0, 1]]), 5)
    assert dealt.rows == [0, 2, 1, 3, 4]
    assert dealt.examples == [0, 1, 0, 1, 0]
    assert dealt.cosines == pytest.approx([1, 1, 0.993884, 0.993884, 0.707107], abs=1e-6)


def test_a_score_is_the_mean_of_the_best_three_cosines_or_of_fewer() -> None:
    rows, examples = unit([[1, 0], [0, 1]]), unit([[1, 0], [0, 1], [1, 1], [-1, 0]])
    near = nearness(rows, examples)
    assert near.scores == pytest.approx([(1 + 0.707107 + 0) / 3] * 2, abs=1e-6)
    assert near.examples.tolist() == [0, 1]
    assert near.cosines.tolist() == [1, 1]
    assert nearness(rows, examples[:2]).scores == pytest.approx([0.5, 0.5])
    assert nearness(rows, examples[:1]).scores == pytest.approx([1, 0])


def by_brute_force(rows: np.ndarray, examples: np.ndarray, count: int) -> list[tuple[int, int]]:
    cosines = (examples @ rows.T).astype(np.float64).round(6)
    taken: list[tuple[int, int]] = []
    for turn in range(count):
        example = turn % min(len(examples), count)
        taken.append((int(cosines[example].argmax()), example))
        cosines[:, taken[-1][0]] = -np.inf
    return taken


def surely_rounded(rows: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """The rows whose cosines are rounded alike on every processor, however the last bits of a product come out."""
    millionths = rows.astype(np.float64) @ examples.astype(np.float64).T * 1e6
    return rows[(np.abs(millionths % 1 - 0.5) > 0.15).all(axis=1)]


@pytest.mark.parametrize("seed", range(12))
def test_blocks_and_short_lists_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    examples = unit(rng.integers(-2, 3, size=(int(rng.integers(1, 6)), 3)) + 0.1)
    rows = surely_rounded(unit(rng.integers(-2, 3, size=(400, 3)) + 0.1), examples)  # many are equally near
    count = int(rng.integers(1, len(rows) + 1))
    whole = nearness(rows, examples)
    monkeypatch.setattr(targets, "FEWEST", 1)
    monkeypatch.setattr(targets, "CELLS", 100)
    monkeypatch.setattr(targets, "BLOCK", 7)
    monkeypatch.setattr(targets, "EXAMPLES_BLOCK", 2)
    dealt = deal(rows, examples, count)
    assert list(zip(dealt.rows, dealt.examples, strict=True)) == by_brute_force(rows, examples, count)
    parts = nearness(rows, examples)
    cosines = (rows @ examples.T).astype(np.float64).round(6)
    assert parts.examples.tolist() == whole.examples.tolist() == cosines.argmax(axis=1).tolist()
    assert parts.scores == pytest.approx(np.sort(cosines, axis=1)[:, -3:].mean(axis=1), abs=1e-6)
    assert (parts.cosines == cosines.max(axis=1)).all()


def test_more_examples_than_rows_of_the_shortlist() -> None:
    rows = unit(np.eye(4))
    dealt = deal(rows, rows[[3, 2, 1, 0]], 2)
    assert (dealt.rows, dealt.examples) == ([3, 2], [0, 1])
