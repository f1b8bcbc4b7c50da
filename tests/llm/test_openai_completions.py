"""Scores over OpenAI's API: by a raw completion where the server has one, else in a chat."""

from typing import Any

import pytest

from selectllm.errors import HostUnreachable
from selectllm.llm.model import Request
from tests.llm.openai_server import CHOICE, GOOD, QUESTION, Server, error, opened

SCORE = Request("Worth it:", logprobs=True)
CHAT = {"content": [{"token": "Yes", "logprob": -0.3, "top_logprobs": [{"token": "Yes", "logprob": -0.3}]}]}


def completion(logprobs: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": " yes", "finish_reason": "length", "logprobs": logprobs}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return head | {"choices": [choice], "usage": {"prompt_tokens": 32, "completion_tokens": 1}}


VLLM = completion({"tokens": [" yes"], "token_logprobs": [-0.1], "top_logprobs": [{" yes": -0.1, " no": -2.5}]})
TOPS = [{"token": " yes", "logprob": -0.1}, {"token": " no", "logprob": -2.5}]
LLAMA_CPP = completion({"content": [{"token": " yes", "logprob": -0.1, "top_logprobs": TOPS}]})
WITHOUT = completion(None)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("served", [VLLM, LLAMA_CPP])
@pytest.mark.asyncio
async def test_a_raw_completion_is_asked_for_where_it_is_served(served: Any) -> None:
    server = Server(continuations=[served])
    model = await opened(server, mode="pointwise")
    reply = await model.answer(SCORE)
    assert (reply.text, reply.done_reason, reply.prompt_tokens, reply.output_tokens) == (" yes", "length", 32, 1)
    assert reply.logprobs == {" yes": -0.1, " no": -2.5}
    assert server.continued[-1] == {
        "model": "m",
        "prompt": SCORE.text,
        "temperature": 0,
        "seed": 0,
        "max_tokens": 1,
        "logprobs": 20,
    }
    assert server.seen == [], "no chat"


@pytest.mark.parametrize(
    "refusal",
    [
        WITHOUT,  # Ollama, which puts its chat template round the text
        (404, error("This is a chat model and not supported in the v1/completions endpoint.")),
        (405, "Method Not Allowed"),
        (400, error("m does not support completions")),
        (500, error("unexpected path")),
        (501, error("not implemented")),
        {"error": "Unexpected endpoint or method."},
    ],
)
@pytest.mark.asyncio
async def test_a_chat_is_asked_where_no_raw_completion_is_served(refusal: Any) -> None:
    server = Server(GOOD | {"choices": [CHOICE | {"logprobs": CHAT}]}, continuations=[refusal])
    model = await opened(server, mode="pointwise")
    for _ in range(2):
        assert (await model.answer(SCORE)).logprobs == {"Yes": -0.3}
    assert len(server.continued) == 1
    assert len(server.seen) == 2


@pytest.mark.asyncio
async def test_fewer_log_probabilities_of_a_raw_text_are_asked_for_where_many_are_refused() -> None:
    refusal = (400, error("logprobs must be less than or equal to 5", param="logprobs"))
    server = Server(continuations=[refusal, VLLM])
    model = await opened(server, mode="pointwise")
    await model.answer(SCORE)
    assert [sent["logprobs"] for sent in server.continued] == [20, 5, 5]


@pytest.mark.asyncio
async def test_replies_of_a_raw_completion_and_of_a_chat_are_never_mixed() -> None:
    digests = []
    for served, mode in ((VLLM, "pointwise"), (WITHOUT, "pointwise"), (VLLM, "listwise")):
        digests.append((await opened(Server(continuations=[served]), mode=mode)).info.digest)  # type: ignore[arg-type]
    assert digests == ["openai:m completions", "openai:m", "openai:m"]


@pytest.mark.asyncio
async def test_a_listwise_question_is_asked_in_a_chat() -> None:
    server = Server(continuations=[VLLM])
    model = await opened(server, mode="pointwise")
    assert (await model.answer(QUESTION)).text == '{"ranking": [2, 1]}'
    assert len(server.continued) == 1


@pytest.mark.parametrize("status", [408, 429, 503])
@pytest.mark.asyncio
async def test_a_server_that_is_busy_does_not_decide_how_it_is_asked(status: int) -> None:
    server = Server(continuations=[(status, error("busy"))])
    with pytest.raises(HostUnreachable, match="cannot be asked now: m failed with status"):
        await opened(server, mode="pointwise")
