"""Requests to models behind OpenAI's API, and what is read out of their replies."""

import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from selectllm.errors import MissingDependency, ModelError, TransientError
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Request
from selectllm.llm.openai import open_openai
from tests.llm.openai_server import CHOICE, GOOD, LISTED, QUESTION, SCHEMA, Server, error, opened, serve

pytestmark = pytest.mark.usefixtures("no_openai_environment")


@pytest.mark.asyncio
async def test_a_model_is_known_by_its_name() -> None:
    info = (await opened(Server())).info
    assert (info.selector, info.name, info.digest) == ("openai:m", "m", "openai:m")
    assert (info.server_version, info.kind, info.mode) == ("unknown", "model", "listwise")


@pytest.mark.parametrize(
    ("fields", "context"),
    [
        ({}, None),
        ({"max_model_len": 8192}, 8192),  # vLLM
        ({"meta": {"n_ctx": 4096, "n_ctx_train": 131_072}}, 4096),  # llama.cpp
        ({"context_length": 32_768}, 32_768),
        ({"context_window": 131_072}, 131_072),
        ({"max_model_len": None, "meta": None}, None),
    ],
)
@pytest.mark.asyncio
async def test_the_context_is_what_the_list_of_models_says(fields: dict[str, Any], context: int | None) -> None:
    model = await opened(Server(models={"data": [LISTED["data"][0] | fields]}))
    await model.prepare(5_000_000, 500)
    assert model.context == context


@pytest.mark.asyncio
async def test_a_request_is_whole_and_explicit() -> None:
    server = Server()
    model = await opened(server)
    reply = await model.answer(QUESTION)
    assert (reply.text, reply.done_reason) == ('{"ranking": [2, 1]}', "stop")
    assert (reply.prompt_tokens, reply.output_tokens, reply.total_duration) == (321, 9, 0)
    assert server.seen == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": QUESTION.text}],
            "temperature": 0,
            "seed": 3,
            "max_completion_tokens": QUESTION.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            },
        }
    ]


@pytest.mark.asyncio
async def test_low_thinking_effort_is_requested_by_name() -> None:
    server = Server()
    await (await opened(server)).answer(dataclasses.replace(QUESTION, think="low"))
    assert server.seen[0]["reasoning_effort"] == "low"


@pytest.mark.asyncio
async def test_a_request_can_ask_for_log_probabilities() -> None:
    tops = [{"token": "yes", "logprob": -0.1, "bytes": None}, {"token": "no", "logprob": -2.5, "bytes": None}]
    places = [{"token": "yes", "logprob": -0.1, "bytes": None, "top_logprobs": tops}]
    choice = CHOICE | {"message": {"role": "assistant", "content": "yes"}, "finish_reason": "length"}
    server = Server(GOOD | {"choices": [choice | {"logprobs": {"content": places, "refusal": None}}]})
    reply = await (await opened(server)).answer(Request("Worth it:", logprobs=True))
    assert (reply.text, reply.done_reason, reply.logprobs) == ("yes", "length", {"yes": -0.1, "no": -2.5})
    (sent,) = server.seen
    assert (sent["logprobs"], sent["top_logprobs"], sent["max_completion_tokens"]) == (True, 20, 1)
    assert "response_format" not in sent


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.asyncio
async def test_thinking_is_separated_from_the_answer(field: str) -> None:
    message = CHOICE["message"] | {field: "Let me see."}  # type: ignore[operator]
    reply = await (await opened(Server(GOOD | {"choices": [CHOICE | {"message": message}]}))).answer(QUESTION)
    assert (reply.text, reply.thinking) == ('{"ranking": [2, 1]}', "Let me see.")


@pytest.mark.parametrize(
    ("choices", "done_reason"),
    [
        ([], "unfinished"),
        (None, "unfinished"),
        ([CHOICE | {"message": None, "finish_reason": None}], "unfinished"),
        ([CHOICE | {"message": {"role": "assistant", "content": None}, "finish_reason": "length"}], "length"),
        ([CHOICE | {"message": {"role": "assistant"}, "finish_reason": "content_filter"}], "content_filter"),
        ([CHOICE | {"message": {"role": "assistant", "content": ""}, "finish_reason": "abort"}], "unfinished"),
    ],
)
@pytest.mark.asyncio
async def test_an_answer_without_content_is_empty_and_has_its_finish_reason(choices: Any, done_reason: str) -> None:
    reply = await (await opened(Server({"choices": choices}))).answer(QUESTION)
    assert (reply.text, reply.done_reason, reply.prompt_tokens) == ("", done_reason, 0)


@pytest.mark.parametrize(
    ("word", "done_reason"),
    [
        *[(word, "stop") for word in ("stop", "STOP", "eos", "eos_token", "end", "end_turn", "stop_sequence")],
        *[(word, "length") for word in ("length", "max_tokens", "MAX_TOKENS")],
        ("content_filter", "content_filter"),
        ("error", "unfinished"),
        (None, "unfinished"),
    ],
)
@pytest.mark.asyncio
async def test_finish_reasons_of_all_servers_are_understood(word: str | None, done_reason: str) -> None:
    reply = await (await opened(Server(GOOD | {"choices": [CHOICE | {"finish_reason": word}]}))).answer(QUESTION)
    assert reply.done_reason == done_reason


@pytest.mark.parametrize("content", [None, "", " \n"])
@pytest.mark.parametrize(
    ("thought", "is_answer"), [('{"ranking": [2, 1]}', True), ("I think [2, 1].", False), ("[2, 1]", False)]
)
@pytest.mark.asyncio
async def test_a_json_answer_that_came_as_a_thought_is_an_answer(
    content: str | None, thought: str, is_answer: bool
) -> None:
    message = {"role": "assistant", "content": content, "reasoning_content": thought}
    reply = await (await opened(Server(GOOD | {"choices": [CHOICE | {"message": message}]}))).answer(QUESTION)
    assert (reply.text, reply.thinking) == ((thought, "") if is_answer else (content or "", thought))


@pytest.mark.asyncio
async def test_an_alternative_without_a_log_probability_is_left_out() -> None:
    tops = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": None}, {"token": "maybe"}]
    choice = CHOICE | {"logprobs": {"content": [{"token": "yes", "logprob": None, "top_logprobs": tops}]}}
    reply = await (await opened(Server(GOOD | {"choices": [choice]}))).answer(Request("Worth it:", logprobs=True))
    assert reply.logprobs == {"yes": -0.1}


@pytest.mark.parametrize(
    "refusal",
    [
        error("Invalid value for 'top_logprobs': must be less than or equal to 5.", param="top_logprobs"),
        error("Provider returned error", code=400, metadata={"raw": '{"error": "top_logprobs: at most 5"}'}),
    ],
)
@pytest.mark.asyncio
async def test_fewer_log_probabilities_are_asked_for_where_many_are_refused(refusal: Any) -> None:
    server = Server((400, refusal), GOOD)
    model = await opened(server)
    for _ in range(2):
        await model.answer(Request("Worth it:", logprobs=True))
    assert [(sent["logprobs"], sent["top_logprobs"]) for sent in server.seen] == [(True, 20), (True, 5), (True, 5)]


@pytest.mark.asyncio
async def test_refused_log_probabilities_are_an_error() -> None:
    server = Server((400, error("This model does not support logprobs", param="logprobs")))
    with pytest.raises(ModelError, match="does not support logprobs"):
        await (await opened(server)).answer(Request("Worth it:", logprobs=True))
    assert len(server.seen) == 2


@pytest.mark.asyncio
async def test_content_parts_are_joined() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": '{"ranking": '}, {"text": "[1, 2]}"}]
    server = Server(GOOD | {"choices": [CHOICE | {"message": {"role": "assistant", "content": parts}}]})
    assert (await (await opened(server)).answer(QUESTION)).text == '{"ranking": [1, 2]}'


@pytest.mark.asyncio
async def test_a_request_works_over_a_real_connection() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'{"choices": [{"mess'

    async def cut() -> Response:
        return StreamingResponse(broken(), headers={"content-length": "1000"}, media_type="application/json")

    server = Server(GOOD, cut, (503, error("busy")))
    with serve(server.app) as host:
        model = await open_openai("m", host=host, keys=ApiKeys())
        assert (await model.answer(QUESTION)).text == '{"ranking": [2, 1]}'
        for kind in ("cut off", "busy"):
            with pytest.raises(TransientError) as raised:
                await model.answer(QUESTION)
            assert raised.value.kind == kind
    with pytest.raises(TransientError) as raised:
        await model.answer(QUESTION)
    assert raised.value.kind == "connection"
    await model.close()
    assert model._client.is_closed()


@pytest.mark.asyncio
async def test_an_error_for_a_missing_client_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingDependency, match=r"openai:m needs .* pip install 'selectllm\[openai\]'"):
        await opened(Server())


def test_the_client_is_imported_only_when_needed() -> None:
    loaded = "import sys, selectllm.llm.openai; print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
