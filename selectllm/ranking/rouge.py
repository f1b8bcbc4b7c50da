"""Rouge-L: how long the longest common subsequence of two texts is, in words of any script.

Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
"""

from collections.abc import Sequence

import numpy as np

from selectllm.ranking.cover import Numbers
from selectllm.text import words


def numbered_words(texts: Sequence[str]) -> list[list[int]]:
    """The words of each text, in lower case, each word as its number."""
    numbers: dict[str, int] = {}
    return [[numbers.setdefault(word, len(numbers)) for word in words(text)] for text in texts]


def rouge_l(texts: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> Numbers:
    """Rouge-L's F1 (A, B) of A texts and B others: twice their longest common subsequence by the words of both.

    0 where neither has a word.
    """
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    common = cdist(texts, others, scorer=LCSseq.similarity, dtype=np.int32)
    lengths = np.add.outer([len(text) for text in texts], [len(text) for text in others])
    found: Numbers = 2 * common / np.maximum(lengths, 1)
    return found


def rouge_l_pairs(texts: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> Numbers:
    """Rouge-L's F1 (A,) of each of A texts and the other text at its place."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cpdist

    lengths = np.array(list(map(len, texts))) + np.array(list(map(len, others)))
    found: Numbers = 2 * cpdist(texts, others, scorer=LCSseq.similarity, dtype=np.int32) / np.maximum(lengths, 1)
    return found
