"""Finds out by one question how a model is to think: not at all where that works, else a little, else with room.

A model that thinks although it is told not to uses up the tokens of its answer; one whose thinking is switched off may
no longer be held to the schema. Only its answers show which it is.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from selectllm.llm.model import ModelInfo, Reply, Request, Think
from selectllm.ranking.answers import read_ranking
from selectllm.ranking.prompts import Candidate, listwise

WAYS: Final[Mapping[str, Think]] = {"off": False, "low": "low", "on": True}
"""The settings, each with how a model is then asked, in the order that they are tried."""

TEXTS: Final = {
    "clear": "Plan a week of packed lunches for a child who cannot eat nuts, with a shopping list by shop aisle.",
    "vague": "Write something.",
    "short": "What is 2 + 2?",
    "rich": "Explain to a new nurse how to read a blood gas result, step by step, with one worked example.",
}
CANDIDATES: Final = tuple(Candidate(id, text) for id, text in TEXTS.items())
TOP_K: Final = 2


def name_of(think: Think) -> str:
    """The setting that stands for a way to ask."""
    return next(name for name, way in WAYS.items() if way == think)


def ways_to_ask(setting: str, info: ModelInfo) -> tuple[Think, ...]:
    """The ways that a setting leaves open: more than one only for `auto`, and a model that may think."""
    if setting != "auto":
        return (WAYS[setting],)
    return tuple(WAYS.values()) if info.may_think and info.mode == "listwise" else (False,)


def trial(think: Think, attempt: int = 1) -> Request:
    """The question that shows whether a model can be asked in this way."""
    question = f"whether thinking can be {name_of(think)}"
    return listwise(CANDIDATES, TOP_K, 0).request(think=think, seed=attempt - 1, attempt=attempt, question=question)


def fitness(think: Think, reply: Reply) -> int:
    """How well a way to ask has done by its reply: 2 as it should, 1 well enough, 0 not at all."""
    answer = read_ranking(reply, listwise(CANDIDATES, TOP_K, 0))
    if answer.fault is not None:
        return 0
    is_disregarded = think is False and bool(reply.thinking)
    return 1 if answer.repaired or is_disregarded else 2


def next_way(ways: Sequence[Think], replies: Mapping[Think, Reply]) -> Think | None:
    """The way to try next; None once one has done as it should, or none is left."""
    if any(fitness(way, reply) == 2 for way, reply in replies.items()):
        return None
    return next((way for way in ways if way not in replies), None)


def best_way(replies: Mapping[Think, Reply]) -> Think:
    """The way that has done best; of equal ones the first that was tried."""
    return max(replies, key=lambda way: fitness(way, replies[way]))
