"""Deterministic models that answer by a rule: for dry runs, tests and as a floor to compare a model with."""

import json
from typing import Any, Final

from selectllm.llm.model import ModelInfo, Reply, Request

RULES: Final = ("longest", "first")


class ScriptedModel:
    """Ranks by a rule: `longest`, the longest text first; `first`, in the order that the prompt shows.

    It gets what a model gets: the text, and the schema of the answer. Candidates are the text's lines of JSON that
    begin with a `number`. Candidates of equal length are ordered by their texts.
    """

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.info = ModelInfo(
            selector=f"scripted:{rule}",
            name=f"scripted:{rule}",
            digest=f"scripted:{rule}:2",
            server_version="none",
            kind="scripted",
            mode="listwise",
        )

    @property
    def context(self) -> int | None:
        """A script reads prompts of any length."""
        return None

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """A script is always ready."""

    async def answer(self, request: Request) -> Reply:
        """Rank the numbered candidates of the text by the rule."""
        candidates = _numbered(request.text)
        if self.rule == "longest":
            candidates.sort(key=_by_length)
        count = request.schema["properties"]["ranking"]["minItems"] if request.schema else 0
        ranking = [candidate["number"] for candidate in candidates[:count]]
        return Reply(text=json.dumps({"ranking": ranking}), done_reason="stop")

    async def probe(self) -> None:
        """A script is always there."""

    async def close(self) -> None:
        """Nothing to release."""


def _numbered(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line.startswith('{"number": ')]


def _by_length(candidate: dict[str, Any]) -> tuple[int, list[str]]:
    texts = [candidate["instruction"], candidate.get("input", "")]
    return -sum(len(text.encode()) for text in texts), texts
