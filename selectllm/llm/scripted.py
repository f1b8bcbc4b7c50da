"""Deterministic models that answer by a rule: for dry runs, tests and as a floor to compare a model with."""

import json
from typing import Any

from selectllm.llm.model import ModelInfo, Reply, Request


class ScriptedModel:
    """Ranks by a rule: `longest`, the longest text first; `first`, in the order that the prompt shows.

    It gets what a model gets: the text, and the schema of the answer. Candidates are the text's lines of JSON that
    begin with a `number`. Candidates of equal length are ordered by their texts.
    """

    host = "this process"
    context: int | None = None  # prompts of any length are read

    def __init__(self, rule: str) -> None:
        self.rule, name = rule, f"scripted:{rule}"
        self.info = ModelInfo(name, name, f"{name}:2", "none", "scripted", "listwise")

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """A script is always ready."""

    async def answer(self, request: Request) -> Reply:
        """Rank the numbered candidates of the text by the rule."""
        count = request.schema["properties"]["ranking"]["minItems"] if request.schema else 0
        lines = [line for line in request.text.split("\n") if line.startswith('{"number": ')]
        candidates = [json.loads(line) for line in (lines if self.rule == "longest" else lines[:count])]
        if self.rule == "longest":
            candidates.sort(key=_by_length)
        ranking = [candidate["number"] for candidate in candidates[:count]]
        return Reply(text=json.dumps({"ranking": ranking}), done_reason="stop")

    async def probe(self) -> None:
        """A script is always there."""

    async def verify(self) -> None:
        """Nothing can change what is in this process."""

    async def close(self) -> None:
        """Nothing to release."""


def _by_length(candidate: dict[str, Any]) -> tuple[int, list[str]]:
    texts = [candidate["instruction"], candidate.get("input", "")]
    return -sum(len(text.encode()) for text in texts), texts
