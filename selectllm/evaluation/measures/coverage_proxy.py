"""A proxy of coverage: how like each row's answer is to the answer of the nearest chosen row.

It measures coverage only. It says nothing of the quality of the chosen rows, and nothing of a model that is tuned on
them. A chosen row is its own nearest row, and counts as 1, so a larger selection has a higher value.
"""

from typing import Final

import numpy as np
import pyarrow.compute as pc

from selectllm.evaluation.measured import Measured
from selectllm.evaluation.measures.measure import Measure, Missing, Values
from selectllm.queries import Rows
from selectllm.ranking.near_duplicates import nearest_chosen
from selectllm.ranking.rouge import numbered_words, rouge_l_pairs
from selectllm.store.tables import values_at
from selectllm.text import words

SAMPLE: Final = 500
"""Rows of the pool whose answers are compared; equal pools and seeds have equal samples."""

WORDS: Final = 256
"""Words of an answer that are compared, its first: with more, long answers would take most of the time."""


def coverage_proxy(measured: Measured) -> Values:
    """The mean Rouge-L (F-measure, 0 to 1), over a sample of rows, of their answers and their nearest chosen rows'.

    Only rows with an answer are compared, and drawn by the seed where there are more than `SAMPLE`.
    Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
    """
    is_answered = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(measured.pool["output"]), ""), False).to_numpy()
    rows, chosen = _sample(measured, is_answered), np.sort(measured.chosen[is_answered[measured.chosen]])
    if not len(rows) or not len(chosen):
        where = "chosen rows" if len(rows) else "rows of the pool"
        return {"coverage_proxy": Missing(f"the {where} have no answers in words")}
    assert measured.vectors is not None
    near, _ = nearest_chosen(measured.vectors, chosen.tolist(), measured.vectors[rows])
    near = np.where(np.isin(rows, chosen), rows, near)  # also where an equal row was chosen
    answers = [text for found in (rows, near) for text in values_at(measured.pool["output"], found)]
    texts = [text[:WORDS] for text in numbered_words(answers)]
    return {"coverage_proxy": float(rouge_l_pairs(texts[: len(rows)], texts[len(rows) :]).mean())}


def _sample(measured: Measured, is_answered: np.typing.NDArray[np.bool_]) -> Rows:
    """Rows drawn from those that have an answer, without those whose answer has no word."""
    rows = np.flatnonzero(is_answered)
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(measured.seed).choice(rows, SAMPLE, replace=False))
    return rows[[bool(words(text)) for text in values_at(measured.pool["output"], rows)]]


COVERAGE_PROXY: Final = Measure(
    name="coverage_proxy",
    better="higher",
    rewards="Coverage only: rows whose answers are like those of their nearest chosen rows",
    gamed_by="Rows with stock answers, and short answers of few common words; it says nothing of quality",
    values=("coverage_proxy",),
    needs=("vectors",),
    compute=coverage_proxy,
)
