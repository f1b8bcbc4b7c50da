"""What is known of a run before it asks, and what its strategy says that it would ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selectllm.llm.caller import LongestRequest
from selectllm.llm.model import Mode, Request, Think
from selectllm.llm.speed import BYTES_PER_TOKEN
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.thinking import WAYS
from selectllm.settings import RunSettings


@dataclass(frozen=True)
class Prospect:
    """A run that was not begun: its settings, the pool's rows as a model would see them, and those that are excluded.

    `mode` is how the selector will be asked, and `criteria` are the user's, if there are any.
    """

    settings: RunSettings
    candidates: Sequence[Candidate]
    excluded: frozenset[str]
    mode: Mode
    criteria: str | None

    @property
    def think(self) -> Think:
        """How the model is asked to think; without, where only the run will decide it."""
        think = self.settings.ranking.think
        return False if think == "auto" else WAYS[think]


@dataclass(frozen=True)
class Planned:
    """What a strategy would ask: at most so many `calls`, and about so many tokens.

    `part` is where a summary tells of this asking, and `counts` are what a plan tells there. `sample` is one of the
    questions, about the first rows of the pool, of which it shows so many. `longest` is the most that a question takes;
    its `max_tokens` are those of a usual answer. `queries` are the groups that rows are asked about in, if any.
    """

    part: str
    calls: int
    prompt_tokens: int
    output_tokens: int
    longest: LongestRequest
    sample: Request
    rows: int
    counts: dict[str, Any]
    queries: dict[str, Any] | None = None


def tokens_of(text: str) -> float:
    """About how many tokens a text has."""
    return len(text.encode()) / BYTES_PER_TOKEN
