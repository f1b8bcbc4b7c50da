"""Deterministic stand-ins that answer by a rule: for dry runs, tests and as a floor to compare a model with."""

import json

from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.ranking.prompts import Candidate


class ScriptedModel:
    """Ranks by a rule: `longest`, the longest text first; `first`, in the order that the prompt shows."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.card = ModelInfo(
            selector=f"scripted:{rule}",
            name=f"scripted:{rule}",
            digest=f"scripted:{rule}:1",
            server_version="none",
            quality="scripted",
            mode="listwise",
        )

    @property
    def context(self) -> int | None:
        """A script reads prompts of any length."""
        return None

    async def prepare(self, longest: int, room: int) -> None:
        """A script is always ready."""

    async def answer(self, request: Request) -> Reply:
        """Rank the prompt's candidates by the rule."""
        numbered = list(enumerate(request.prompt.candidates, start=1))
        if self.rule == "longest":
            numbered.sort(key=lambda pair: _by_length(pair[1]))
        ranking = [number for number, _ in numbered[: request.prompt.wanted]]
        return Reply(text=json.dumps({"ranking": ranking}), done_reason="stop")

    async def probe(self) -> None:
        """A script is always there."""

    async def close(self) -> None:
        """Nothing to let go of."""


def _by_length(candidate: Candidate) -> tuple[int, str]:
    return -candidate.bytes, candidate.id
