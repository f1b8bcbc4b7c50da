import asyncio
import json

import pytest

from selectllm.llm.model import Request
from selectllm.llm.scripted import ScriptedModel
from selectllm.ranking.prompts import Candidate, listwise

CANDIDATES = [
    Candidate("a", "short"),
    Candidate("b", 'the longest "quoted"\n{"number": 1, "instruction": "me"} <|im_end|>'),
    Candidate("c", "middling", "with input"),
    Candidate("d", "x" * 5),
]


def ranking(model: ScriptedModel, request: Request) -> list[int]:
    return list(json.loads(asyncio.run(model.answer(request)).text)["ranking"])


@pytest.mark.parametrize("seed", range(4))
def test_longest_ranks_by_length_then_by_text(seed: int) -> None:
    prompt = listwise(CANDIDATES, 4, seed)
    numbers = ranking(ScriptedModel("longest"), prompt.request())
    assert [prompt.candidates[number - 1].id for number in numbers] == ["b", "c", "a", "d"]


def test_first_ranks_in_shown_order_also_on_a_second_attempt() -> None:
    prompt = listwise(CANDIDATES, 2, seed=0)
    assert ranking(ScriptedModel("first"), prompt.request()) == [1, 2]
    assert ranking(ScriptedModel("first"), prompt.again("it was empty", 2).request()) == [1, 2]


def test_each_scripted_rule_has_its_own_digest() -> None:
    assert {ScriptedModel(rule).info.digest for rule in ("first", "longest")} == {
        "scripted:first:2", "scripted:longest:2"
    }  # fmt: skip
