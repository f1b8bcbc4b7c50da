"""Rows whose wording is least like that of other rows."""

from typing import Final

import numpy as np
import pyarrow as pa

from selectllm.cancellation import raise_if_cancelled
from selectllm.ranking.cover import Numbers, blocks
from selectllm.ranking.rouge import numbered_words, rouge_l
from selectllm.strategies.points import draws, preferences_of
from selectllm.strategies.strategy import Choice, Strategy

OTHERS: Final = 1000
"""Rows that each row is compared with."""

DIGITS: Final = 9
"""Digits of a Rouge-L that count."""


class RougeDiversity(Strategy):
    """Orders rows by their highest Rouge-L (F1) against 1,000 others that the seed draws, the lowest first.

    Instruction and input count, and words of all scripts; the library rouge-score, which the source uses, knows only
    words of a-z and 0-9. One sample serves all rows, and a row is never compared with itself; excluded rows can be in
    the sample. Equal rows are ordered by id. A row beyond 1,000 others may still repeat another one.
    """

    name = "rouge-diversity"
    source = "Parkar et al., SelectLLM (arXiv 2401.16553), whose rival it is; Rouge-L: Lin, ROUGE, 2004"

    def prefer(self, choice: Choice) -> pa.Table:
        """Order all rows; the score is 1 - the highest Rouge-L."""
        pool = choice.pool
        ids = pool["id"].to_pylist()
        pairs = zip(pool["instruction"].to_pylist(), pool["input"].to_pylist(), strict=True)
        tokens = numbered_words([f"{instruction} {input or ''}" for instruction, input in pairs])
        drawn = draws(ids, choice.seed)
        sample = sorted(range(len(ids)), key=lambda row: (drawn[row], ids[row]))[: OTHERS + 1]
        highest = np.zeros(len(ids))
        for block in blocks(len(ids)):
            raise_if_cancelled()
            rows = np.arange(len(ids))[block]
            likeness = rouge_l([tokens[row] for row in rows], [tokens[row] for row in sample])
            highest[block] = highest_of_others(likeness, rows, np.array(sample))
            choice.context.progress("preferences", min(block.stop, len(ids)), len(ids))
        scores = (1 - highest).round(DIGITS)
        order = sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))
        return preferences_of([ids[row] for row in order], "wording", [float(scores[row]) for row in order])


def highest_of_others(likeness: Numbers, rows: np.ndarray, sample: np.ndarray) -> Numbers:
    """The highest likeness (R,) of each row to the first 1,000 of a sample (R, S) that are not the row itself."""
    is_self = rows[:, None] == sample
    is_surplus = np.cumsum(~is_self, axis=1) > OTHERS
    highest: Numbers = np.where(is_self | is_surplus, 0.0, likeness).max(axis=1, initial=0.0)
    return highest
