"""Pairs of answers to one instruction: what a judge compares."""

from dataclasses import dataclass
from functools import cached_property

from selectllm.store import digest


@dataclass(frozen=True)
class Pair:
    """An instruction with two answers to it; `number` is its place among the pairs, from 1."""

    number: int
    instruction: str
    baseline: str
    model: str
    index: int | None = None  # of the question in the baseline's file, from 0
    dataset: str | None = None

    @cached_property
    def id(self) -> str:
        """32 hex digits that stand for the texts."""
        return digest("pair", self.instruction, self.baseline, self.model)

    @property
    def is_equal(self) -> bool:
        """Whether both answers are the same: a draw, about which nobody is asked."""
        return self.baseline == self.model

    def model_first(self, seed: int) -> bool:
        """Whether the model's answer is shown first: drawn by the seed, wherever the pair stands in its file."""
        return bool(int(digest("order", seed, self.id), 16) & 1)
