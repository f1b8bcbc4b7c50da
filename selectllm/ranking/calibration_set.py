"""The pairs of instructions by which a model is calibrated: of each, one text is clearly worth more by our criteria.

They are data of the package, so that an installed wheel has them, too; `examples/calibration.jsonl` points to them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import numpy as np

from selectllm.ranking.prompts import Candidate

FILE: Final = "calibration.jsonl"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two instructions of equal length on similar subjects; `better` is worth more than `worse`."""

    id: str
    kind: str
    language: str
    better: str
    worse: str

    @property
    def candidates(self) -> tuple[Candidate, Candidate]:
        """Both texts as a model gets to see them, the better one first; nothing that is shown tells which is which."""
        return Candidate(f"{self.id}/better", self.better), Candidate(f"{self.id}/worse", self.worse)


def load_pairs() -> list[Pair]:
    """All pairs of the set, in the order of the file."""
    text = (files(__package__) / FILE).read_text(encoding="utf-8")
    return [Pair(**json.loads(line)) for line in text.splitlines()]


def deal(pairs: Sequence[Pair], size: int, seed: int) -> list[list[Pair]]:
    """Deal whole pairs into queries of at most `size` candidates; each query gets pairs of all languages.

    Another seed puts other pairs together. `size` is at least 2.
    """
    count = -(-len(pairs) // (size // 2))
    shuffled = [pairs[place] for place in np.random.default_rng(seed).permutation(len(pairs))]
    shuffled.sort(key=lambda pair: pair.language)
    return [shuffled[query::count] for query in range(count)]
