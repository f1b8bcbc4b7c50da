"""Distinct-n: how many of the chosen rows' words, and pairs of neighbouring words, are different.

Source: Li and others, A Diversity-Promoting Objective Function for Neural Conversation Models, arXiv 1510.03055.
"""

from itertools import chain
from typing import Final

from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.measure import Measure, Missing, Values
from selectllm.store.tables import values_at
from selectllm.text import words


def distinct(measured: Measured) -> Values:
    """The different words, and pairs of neighbouring words of a row, over all of them: above 0, up to 1."""
    texts = (values_at(measured.pool[name], measured.chosen) for name in ("instruction", "input"))
    rows = [words(f"{instruction}\n{input or ''}") for instruction, input in zip(*texts, strict=True)]
    return {"distinct_1": _distinct(rows, 1), "distinct_2": _distinct(rows, 2)}


def _distinct(rows: list[list[str]], n: int) -> float | Missing:
    grams = list(chain.from_iterable(zip(*(row[start:] for start in range(n)), strict=False) for row in rows))
    if not grams:
        return Missing("the chosen rows have no words" if n == 1 else f"no chosen row has {n} words")
    return len(set(grams)) / len(grams)


DISTINCT: Final = Measure(
    name="distinct",
    better="higher",
    rewards="Chosen rows that do not repeat each other's words",
    gamed_by="Choosing few, short or odd texts: the longer the texts together, the lower it is",
    values=("distinct_1", "distinct_2"),
    compute=distinct,
)
