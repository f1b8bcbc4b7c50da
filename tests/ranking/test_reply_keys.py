"""Reply keys never change, because they give access to paid replies in the ledgers of stores."""

import json
from pathlib import Path

import pytest

from selectllm.llm.ledger import Ledger
from selectllm.llm.ledger_lines import Entry
from selectllm.llm.model import ModelInfo, Request
from selectllm.ranking.prompts import Candidate, listwise, pointwise
from selectllm.store import Store

INFO = ModelInfo("ollama:m", "m:latest", "digest of the weights", "0.24", "model", "listwise")
CANDIDATES = [Candidate(f"{n:02}", f"Task {n} <|im_end|>", "data" if n % 2 else None) for n in range(6)]
LISTWISE = listwise(CANDIDATES, 3, seed=7)
CUT_OFF = LISTWISE.again("it was cut off before its end", 2)

# Computed by version 0.1, whose ledgers stay valid.
KEYS = {
    "229c5d35f0681ac330aa7d11bb54d2f8": LISTWISE.request(seed=7),
    "c184948a4a3119e1c1abfb7e5e9f57f0": LISTWISE.again("it named 2 candidates instead of 3", 2).request(
        seed=8, attempt=2
    ),
    "d239153495f85c87922e47a183244b7e": CUT_OFF.request(seed=8, attempt=2, max_tokens_factor=2),
    "bb70fb5b45f2a4fe69cd6070e1beb8ec": pointwise(CANDIDATES[1]).request(seed=7),
    "b575169af5b41a93be16c7a63d86eaa6": LISTWISE.request(seed=7, think="low"),
    "957715b87a1e3e75aa3c92c81fa50b6e": LISTWISE.request(seed=7, think=True),
    "ee7ccf2a81ebf5f7a582448c73435151": listwise(CANDIDATES, 3, 7, 2).request(seed=7, pass_index=2),
}


@pytest.mark.parametrize("key", KEYS)
def test_reply_keys_never_change(key: str) -> None:
    assert KEYS[key].key(INFO) == key


def test_a_reply_key_depends_only_on_what_decides_the_reply() -> None:
    request = LISTWISE.request(seed=7)
    for notes in ({"question": "query 3"}, {"attempt": 3}, {"describe": lambda _: "used"}):
        assert LISTWISE.request(seed=7, **notes).key(INFO) == request.key(INFO)
    assert isinstance(request, Request)


def test_own_criteria_change_the_keys_and_only_by_their_text() -> None:
    keys = [
        prompt.request(seed=7).key(INFO)
        for criteria in (None, "Medicine.", "Medicine")
        for prompt in (listwise(CANDIDATES, 3, 7, criteria=criteria), pointwise(CANDIDATES[1], criteria))
    ]
    assert len(set(keys)) == 6
    assert set(keys) & KEYS.keys() == set(keys[:2])
    assert listwise(CANDIDATES, 3, 7, criteria="Medicine.").request(seed=7).key(INFO) == keys[2]


def test_the_folder_of_a_model_never_changes() -> None:
    assert INFO.key == "3be10a1d18770263cdfe452f11f31e09"


def test_lines_of_version_0_1_are_read(tmp_path: Path) -> None:
    """Lines of version 0.1 have no question."""
    fields = {"key": next(iter(KEYS)), "at": 1, "prompt": "p", "model": "m", "shown": ["01", "00"], "attempt": 1}
    reply = {"text": "x", "done_reason": "stop", "prompt_tokens": 1, "logprobs": {}}
    line = json.dumps({**fields, "seed": 7, "outcome": "used", "reply": reply}).encode()
    entry = Entry.parse(line)
    assert entry is not None
    assert (entry.question, entry.shown, entry.reply.text) == ("", ("01", "00"), "x")
    store = Store(str(tmp_path))
    store.write_bytes(f"replies/{INFO.key}/00-0.jsonl", line + b"\n")
    assert Ledger(store, INFO).get(LISTWISE.request(seed=7).key(INFO)) == entry


def test_a_temperature_of_its_own_has_a_key_of_its_own() -> None:
    plain, drawn = Request("Answer this.", max_tokens=9), Request("Answer this.", max_tokens=9, temperature=0.7)
    assert plain.key(INFO) == "d0b56a9372c495ecd771107fc564e165"
    assert drawn.key(INFO) == "b1f74c7afca795e2bbb29ccdfcdd9644"
