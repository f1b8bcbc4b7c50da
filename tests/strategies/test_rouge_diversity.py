import numpy as np
import pytest

from selectllm.ranking.rouge import numbered_words, rouge_l, rouge_l_pairs
from selectllm.strategies import load_strategy, rouge_diversity
from selectllm.strategies.rouge_diversity import highest_of_others
from selectllm.text import words
from tests.strategies.data import choice_of, drawn, named

TEXTS = [
    "Name the capital of France.",
    "name THE capital of Spain",
    "Nenne die Hauptstadt Österreichs",
    "法国的首都是什么",
    "西班牙的首都在哪里",
    "",
    "!!!",
    "of capital the name",
    "Explain why the sky is blue, and why the sea is, too.",
]


def test_rouge_l_is_that_of_the_library_with_our_words() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed")

    class Words:
        def tokenize(self, text: str) -> list[str]:
            return words(text)

    library = scorer.RougeScorer(["rougeL"], tokenizer=Words())
    rng = np.random.default_rng(0)
    texts = TEXTS + [" ".join(rng.choice(list("abcdef"), rng.integers(0, 30))) for _ in range(40)]
    numbered = numbered_words(texts)
    expected = [[library.score(text, other)["rougeL"].fmeasure for other in texts] for text in texts]
    assert rouge_l(numbered, numbered) == pytest.approx(np.array(expected), abs=1e-9)
    assert rouge_l_pairs(numbered, numbered[::-1]) == pytest.approx(np.fliplr(expected).diagonal(), abs=1e-9)


def test_the_values_of_small_cases() -> None:
    numbered = numbered_words(TEXTS)
    found = rouge_l(numbered, numbered)
    assert found[0, 1] == pytest.approx(2 * 4 / 10)
    assert found[0, 7] == pytest.approx(2 * 1 / 9)
    assert found[3, 4] == pytest.approx(2 * 3 / 17), "letters of Chinese are words"
    assert found[5].max() == found[6].max() == 0


def test_a_row_is_not_compared_with_itself_and_with_so_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rouge_diversity, "OTHERS", 2)
    likeness = np.array([[1.0, 0.3, 0.9], [0.2, 0.5, 0.9]])
    assert highest_of_others(likeness, np.array([7, 3]), np.array([7, 8, 9])).tolist() == [0.9, 0.5]


def test_rows_of_rare_wording_come_first() -> None:
    texts = ["name the capital of France", "name the capital of Spain", "why is the sky blue", "solve x + 1 = 2"]
    choice = choice_of(drawn(4), 4, texts=texts)
    assert named("rouge-diversity", choice) == [3, 2, 0, 1]
    scores = load_strategy("rouge-diversity").prefer(choice)["score"].to_pylist()
    assert scores == pytest.approx([1, 1 - 2 / 10, 1 - 8 / 10, 1 - 8 / 10])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(np.random.default_rng(row).choice(list("abcdefghij"), 8)) for row in range(60)]
    expected = named("rouge-diversity", choice_of(drawn(60), 60, texts=texts))
    monkeypatch.setattr("selectllm.ranking.cover.BLOCK", 7)
    assert named("rouge-diversity", choice_of(drawn(60), 60, texts=texts)) == expected
