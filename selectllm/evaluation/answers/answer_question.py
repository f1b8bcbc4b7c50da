"""How a model is asked for an answer that is evaluated, and what counts as one."""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from selectllm.evaluation.answers.questions import Question
from selectllm.llm.model import THINKING_TOKENS, Reply, Request, Think, Turn
from selectllm.ranking.row_questions import Reading, refused

CODE_VERSION: Final = 1
"""Raise it when a question is to be put in another way, or its answer to be read in another."""

_SEEDS: Final = 2**32
_NEXT_SEED: Final = 2**31 + 1009
"""What an attempt's seed is beyond that of the one before: no attempts, and no seeds of a run, have one in common."""


class Answer(NamedTuple):
    """An answer's text, and whether it was cut off at the most tokens that it may have."""

    text: str
    is_cut: bool


@dataclass(frozen=True)
class AnswerQuestion:
    """A question by one seed, at temperature 0: the model gets the question's own text, and nothing else.

    A question of several turns is put with the earlier turns `before` it. It is put once: an answer that cannot be used
    would come again.
    """

    question: Question
    seed: int
    max_tokens: int
    think: Think
    before: tuple[Turn, ...] = ()
    attempts = 1

    @property
    def id(self) -> str:
        """The question's id."""
        return self.question.id

    @property
    def name(self) -> str:
        """What the ledger and errors call it."""
        turn = f", turn {len(self.before) // 2 + 1}" if self.before else ""
        return f"answer to {self.id}{turn}, seed {self.seed}"

    def after(self, before: tuple[Turn, ...]) -> "AnswerQuestion":
        """The same question, with earlier turns before it."""
        return replace(self, before=before)

    def request(self, attempt: int = 1, fault: str = "") -> Request:
        """What is sent; asked once more, by a later run, with another seed: the ledger has the reply to this one."""
        return Request(
            self.question.text,
            before=self.before,
            max_tokens=self.max_tokens + (THINKING_TOKENS if self.think else 0),
            seed=(self.seed + (attempt - 1) * _NEXT_SEED) % _SEEDS,
            think=self.think,
            question=self.name,
            shown=(self.id,),
            attempt=attempt,
            describe=self._describe,
        )

    def read(self, reply: Reply) -> Reading:
        """The answer, also where it was cut off; None where it is blank or a content filter has ended it."""
        if reply.done_reason == "content_filter":
            return refused()
        if not reply.text.strip():
            return Reading(None, "it was empty", "empty")
        return Reading(Answer(reply.text, reply.done_reason != "stop"))

    def _describe(self, reply: Reply) -> str:
        return self.read(reply).kind
