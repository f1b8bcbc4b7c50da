"""Has a model answer an instruction several times, and counts in how many ways it did.

Source: the baseline of that name in "SelectLLM" (arXiv 2401.16553). The sentences are ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from selectllm.llm.model import THINKING_TOKENS, Reply, Request, Think
from selectllm.ranking.fencing import fenced
from selectllm.ranking.prompts import Candidate, content_of
from selectllm.ranking.row_questions import Reading, refused
from selectllm.text import words

CODE_VERSION: Final = 1
"""Raise it when a changed wording, or another way to count, is to replace the counts made with the old one."""

SAMPLES: Final = 3
"""Answers to each instruction."""

TEMPERATURE: Final = 1.0
"""At which answers are drawn: as the model's own probabilities say."""

ANSWER_TOKENS: Final = 128
"""The most tokens of an answer, thinking not counted: most answers end there."""

WORDS: Final = 80
"""Words of an answer that count, so that a model which talks much does not make all instructions open-ended."""

_SEEDS: Final = 2**32

_TASK: Final = """\
Answer the instruction in the next line as well as you can, in plain text. The line is JSON with the text of the
instruction and, where it has one, its input.
"""


@dataclass(frozen=True)
class SampleQuestion:
    """One of the answers to a row's instruction, by its `number` from 1; the run's seed draws it."""

    candidate: Candidate
    number: int
    seed: int
    think: Think
    attempts = 1

    @property
    def id(self) -> str:
        """The row's id."""
        return self.candidate.id

    @property
    def name(self) -> str:
        """What the ledger and errors call the question."""
        return f"answer {self.number} to row {self.id}"

    def request(self, attempt: int = 1, fault: str = "") -> Request:
        """What is sent: no two answers have the same seed, or a server would give the same one again."""
        drawn = SAMPLES * self.seed + self.number - 1 + (attempt - 1) * (_SEEDS // 2)
        return Request(
            _TASK + fenced(content_of(self.candidate)),
            max_tokens=max_sample_tokens(self.think),
            seed=drawn % _SEEDS,
            temperature=TEMPERATURE,
            think=self.think,
            pass_index=self.number,
            question=self.name,
            shown=(self.id,),
            attempt=attempt,
            describe=self._describe,
        )

    def read(self, reply: Reply) -> Reading:
        """The answer's text, also where it was cut off; None where there is no word in it."""
        if reply.done_reason == "content_filter":
            return refused()
        return Reading(reply.text) if words(reply.text) else Reading(None, "it was empty", "empty")

    def _describe(self, reply: Reply) -> str:
        return self.read(reply).kind


def max_sample_tokens(think: Think) -> int:
    """The most tokens of an answer, with what the model may think before it."""
    return ANSWER_TOKENS + (THINKING_TOKENS if think else 0)


def distinct_bigrams(texts: Iterable[str]) -> int:
    """How many different pairs of neighbouring words the first WORDS of each of some texts have together."""
    bigrams = set[tuple[str, str]]()
    for text in texts:
        bigrams.update(pairwise(words(text)[:WORDS]))
    return len(bigrams)
