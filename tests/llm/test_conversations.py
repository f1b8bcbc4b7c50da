"""Requests with turns before them: what is sent, and what their keys stand for."""

from selectllm.llm.embedded import _body
from selectllm.llm.model import ModelInfo, Request
from selectllm.llm.openai_dialect import Dialect
from selectllm.store import digest

INFO = ModelInfo("s", "n", "d", "1", "model", "listwise")
BEFORE = (("system", "Be brief."), ("user", "One?"), ("assistant", "Two."))


def test_earlier_turns_stand_before_the_text() -> None:
    request = Request("Three?", before=BEFORE, max_tokens=5)
    roles = ["system", "user", "assistant", "user"]
    for body in (_body(request), Dialect("m", is_ollama=False).body(request)):
        assert [message["role"] for message in body["messages"]] == roles
        assert body["messages"][-1]["content"] == "Three?"
    assert request.whole_text == "Be brief.\nOne?\nTwo.\nThree?"


def test_keys_tell_conversations_apart_and_are_as_before_without_turns() -> None:
    plain = Request("Three?")
    assert plain.text_digest == digest("Three?")
    keys = {
        Request("Three?", before=before).key(INFO)
        for before in ((), BEFORE, BEFORE[:2], BEFORE[1:], (("user", "Be brief."), *BEFORE[1:]))
    }
    assert len(keys) == 5
