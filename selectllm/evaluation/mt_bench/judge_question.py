"""How a judge's answer is read: strictly, by its schema, or by the one mark such as [[7]] or [[A]] that it holds."""

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from selectllm.evaluation.mt_bench.prompts import JudgePrompt, Kind
from selectllm.llm.model import THINKING_TOKENS, Reply, Request, Think
from selectllm.ranking.answers import read_json
from selectllm.ranking.row_questions import Reading, refused

JUDGMENT_TOKENS: Final = {"json": 512, "marks": 2048}
"""The most tokens of a judgment; 2,048 are FastChat's."""

_RATING: Final = re.compile(r"\[\[(\d{1,3}(?:\.\d{1,6})?)\]\]")
_VERDICT: Final = re.compile(r"\[\[([ABC])\]\]")
_WINS: Final = {"A": 1.0, "B": 0.0, "C": 0.5, "tie": 0.5}


class Judgment(NamedTuple):
    """A rating of 1 to 10, or what the first of two answers wins: 1, 0, or 0.5 for a tie; and the judge's words."""

    score: float
    text: str


@dataclass(frozen=True)
class JudgeQuestion:
    """One judgment about a turn: of one model, or of two, the first being A; put twice where it cannot be used."""

    id: str
    turn: int
    models: tuple[str, ...]
    kind: Kind
    prompt: JudgePrompt
    think: Think
    attempts = 2

    @property
    def name(self) -> str:
        """What the ledger and errors call it."""
        return f"judgment of {' and '.join(self.models)}, question {self.id}, turn {self.turn}"

    def request(self, attempt: int = 1, fault: str = "") -> Request:
        """What is sent."""
        prompt = self.prompt
        again = f"\n\nYour last answer could not be used, because {fault}. {prompt.again}" if fault else ""
        return Request(
            prompt.text + (again if prompt.form == "json" else ""),
            before=(("system", prompt.system),) if prompt.system else (),
            schema=prompt.schema,
            max_tokens=JUDGMENT_TOKENS[prompt.form] + (THINKING_TOKENS if self.think else 0),
            seed=attempt - 1,
            think=self.think,
            question=self.name,
            shown=(self.id,),
            attempt=attempt,
            describe=self._describe,
        )

    def read(self, reply: Reply) -> Reading:
        """The judgment that a reply gives."""
        return read_judgment(reply, self.kind)

    def _describe(self, reply: Reply) -> str:
        return self.read(reply).kind


def read_judgment(reply: Reply, kind: Kind) -> Reading:
    """The one score of a reply: as JSON by the schema, or as its only mark; several that differ say nothing."""
    if reply.done_reason == "content_filter":
        return refused()
    key, marks = ("rating", _RATING) if kind == "single" else ("verdict", _VERDICT)
    value = read_json(reply.text)
    if isinstance(value, dict):
        found: Any = value.get(key)
        if kind == "single" and type(found) in (int, float) and 1 <= found <= 10:
            return Reading(Judgment(float(found), reply.text))
        if kind == "pairwise" and isinstance(found, str) and found in _WINS:
            return Reading(Judgment(_WINS[found], reply.text))
        return Reading(None, f"it had no {key} that is allowed", "out of range")
    named = set(marks.findall(reply.text))
    if len(named) > 1:
        return Reading(None, f"it gave several {key}s", "ambiguous")
    if not named:
        is_cut = reply.done_reason != "stop"
        return Reading(None, "it was cut off" if is_cut else f"it gave no {key}", "cut off" if is_cut else "unreadable")
    (mark,) = named
    if kind == "pairwise":
        return Reading(Judgment(_WINS[mark], reply.text))
    if not 1 <= float(mark) <= 10:
        return Reading(None, "its rating was not from 1 to 10", "out of range")
    return Reading(Judgment(float(mark), reply.text))
