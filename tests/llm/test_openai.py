"""Models behind OpenAI's API, through the official client, against an app that speaks it and fails on demand."""

import asyncio
import dataclasses
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from selectllm.errors import (
    ContentRefused,
    ContextLengthExceeded,
    MissingDependency,
    ModelError,
    SelectorUnavailable,
    TransientError,
)
from selectllm.llm.context_guard import warn_once
from selectllm.llm.keys import ApiKeys, ProviderKey
from selectllm.llm.model import Request
from selectllm.llm.openai import open_openai
from selectllm.llm.openai_client import NO_KEY
from tests.llm.in_process import in_process
from tests.llm.openai_server import CHOICE, GOOD, HOST, KEY, LISTED, QUESTION, SCHEMA, Server, error, opened


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.llm.openai._answered", set())
    for name in ("API_KEY", "BASE_URL", "ORG_ID", "PROJECT_ID", "ADMIN_KEY", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve the app on a real server; gives its base URL."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await serving


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


UNKNOWN_LIMIT = (400, error("[{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens')}]", code=400))
FORBIDDEN_LIMIT = (
    422,
    {
        "object": "error",
        "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"]}]},
        "type": "invalid_request_error",
    },
)
NO_SCHEMA = (400, {"error": "'response_format.type' must be 'text'"})
BAD_SCHEMA = (
    400,
    error("Invalid schema for response_format 'ranking': In context=('properties',), 'minItems' is not permitted."),
)
NO_GRAMMAR = (400, error("failed to parse grammar", code=400))
NO_TEMPERATURE = (
    400,
    error(
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        param="temperature",
        code="unsupported_value",
    ),
)
# What OpenRouter quotes of the server behind it, with the refusal's status or with status 200.
QUOTED = error("Provider returned error", code=400, metadata={"raw": '{"message": "Unknown name \\"seed\\""}'})
NO_SEED = (400, error("Unsupported parameter: 'seed' is not supported with this model.", code="unsupported_parameter"))


@pytest.mark.parametrize(
    ("refusal", "field"),
    [
        (UNKNOWN_LIMIT, "max_completion_tokens"),
        (FORBIDDEN_LIMIT, "max_completion_tokens"),
        (NO_SCHEMA, "response_format"),
        (BAD_SCHEMA, "response_format"),
        (NO_GRAMMAR, "response_format"),
        (NO_TEMPERATURE, "temperature"),
        (NO_SEED, "seed"),
        ((400, QUOTED), "seed"),
        ((200, QUOTED), "seed"),
    ],
)
@pytest.mark.asyncio
async def test_a_refused_field_is_never_sent_again(refusal: Any, field: str) -> None:
    server = Server(refusal, GOOD)
    model = await opened(server)
    for _ in range(2):
        assert (await model.answer(QUESTION)).prompt_tokens == 321
    assert [field in sent for sent in server.seen] == [True, False, False]
    first, *later = server.seen
    for sent in later:
        replaced = {"max_tokens": QUESTION.max_tokens} if field == "max_completion_tokens" else {}
        assert sent == {key: value for key, value in first.items() if key != field} | replaced


@pytest.mark.asyncio
async def test_a_limit_that_is_ignored_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    long = GOOD | {"usage": {"prompt_tokens": 321, "completion_tokens": QUESTION.max_tokens + 1}}
    server = Server(GOOD, long, long, GOOD)
    model = await opened(server)
    for _ in range(4):
        assert (await model.answer(QUESTION)).text == '{"ranking": [2, 1]}'
    limits = [(sent.get("max_completion_tokens"), sent.get("max_tokens")) for sent in server.seen]
    assert limits == [(48, None), (48, None), (None, 48), (None, 48)]
    assert [record.message for record in caplog.records] == [
        "m ignores max_completion_tokens: max_tokens is sent to it from now on"
    ]


# Azure's, OpenAI's, OpenRouter's, DeepSeek's and LiteLLM's refusals of what a prompt says.
FILTERED = {
    "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}},
}
FLAGGED = {
    "code": 403,
    "message": 'openai/gpt-4o requires moderation on OpenAI. Your input was flagged for "violence".',
    "metadata": {"reasons": ["violence"], "flagged_input": "Explain how", "provider_name": "OpenAI"},
}
POLICY = "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - the schema is fine"


@pytest.mark.parametrize(
    "reply",
    [
        (400, {"error": FILTERED}),
        (400, error("Invalid prompt: your prompt was flagged by our usage policy.", code="invalid_prompt")),
        (403, {"error": FLAGGED}),
        {"error": FLAGGED},
        (400, error("Content Exists Risk", type="invalid_request_error", code="invalid_request_error")),
        (400, error(POLICY.partition(": ")[2], code="400")),
    ],
)
@pytest.mark.asyncio
async def test_a_refusal_of_content_is_about_this_question_alone(reply: Any) -> None:
    server = Server(reply, GOOD)
    model = await opened(server)
    with pytest.raises(ContentRefused, match=r"^m refused what a prompt says with [^\n]+$"):
        await model.answer(QUESTION)
    assert (await model.answer(QUESTION)).prompt_tokens == 321
    assert [sent.keys() for sent in server.seen] == [server.seen[0].keys()] * 2, "no field is given up for it"


@pytest.mark.asyncio
async def test_words_of_a_candidate_are_no_refusal_of_content() -> None:
    message = 'invalid request: {"text": "content_filter, invalid_prompt, Content Exists Risk"}'
    with pytest.raises(ModelError) as raised:
        await (await opened(Server((400, error(message))))).answer(QUESTION)
    assert not isinstance(raised.value, ContentRefused)


@pytest.mark.parametrize("text", ['{"ranking": [2, ', "The best are 2 and 1.", None])
@pytest.mark.asyncio
async def test_a_failed_generation_is_an_answer_and_the_schema_is_kept(text: str | None) -> None:
    """Groq's words."""
    failed = error("Failed to generate JSON. Please adjust your prompt.", code="json_validate_failed")
    failed["error"] |= {"failed_generation": text} if text else {}
    server = Server((400, failed), GOOD)
    model = await opened(server)
    assert (await model.answer(QUESTION)).text == (text or "")
    await model.answer(QUESTION)
    assert all("response_format" in sent for sent in server.seen)


@pytest.mark.asyncio
async def test_a_refusal_by_the_model_itself_ends_an_answer_like_a_filter() -> None:
    refused = CHOICE | {"message": {"role": "assistant", "content": None, "refusal": "I can't help with that."}}
    reply = await (await opened(Server(GOOD | {"choices": [refused]}))).answer(QUESTION)
    assert (reply.text, reply.done_reason) == ("", "content_filter")


@pytest.mark.asyncio
async def test_several_fields_can_be_refused_one_after_the_other() -> None:
    server = Server(UNKNOWN_LIMIT, NO_SCHEMA, NO_TEMPERATURE, NO_SEED, GOOD)
    assert (await (await opened(server)).answer(QUESTION)).prompt_tokens == 321
    assert server.seen[-1].keys() == {"model", "messages", "max_tokens"}


@pytest.mark.asyncio
async def test_a_refused_field_does_not_fail_requests_in_flight() -> None:
    together = asyncio.Event()

    async def refuse() -> Response:
        if len(server.seen) == 2:
            together.set()
        await together.wait()
        return JSONResponse(NO_TEMPERATURE[1], 400)

    server = Server(refuse, refuse, GOOD)
    model = await opened(server)
    replies = await asyncio.gather(model.answer(QUESTION), model.answer(QUESTION))
    assert [reply.prompt_tokens for reply in replies] == [321, 321]


@pytest.mark.asyncio
async def test_a_field_is_dropped_only_once() -> None:
    server = Server(UNKNOWN_LIMIT)
    with pytest.raises(ModelError, match="status 400"):
        await (await opened(server)).answer(QUESTION)
    assert len(server.seen) == 2


async def _reset() -> Response:
    raise httpx.ReadError("connection reset")


async def _garbled() -> Response:
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


async def _hang() -> Response:
    await asyncio.sleep(60)
    return Response()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((408, error("timed out")), "timeout"),
        ((409, error("conflict")), "busy"),
        ((429, error("Rate limit reached", type="tokens", code="rate_limit_exceeded")), "rate limit"),
        ((500, error("The server had an error")), "server error"),
        ((502, "bad gateway"), "server error"),
        ((503, error("Loading model", type="unavailable_error", code=503)), "busy"),
        ((504, error("upstream timed out")), "timeout"),
        (PlainTextResponse("<html>\n520: web server is returning an unknown error</html>", 520), "server error"),
        (_reset, "connection"),
        (_garbled, "cut off"),
        (Response('{"choices": [{"mess', media_type="application/json"), "cut off"),
        (PlainTextResponse("<html>\nSign in"), "cut off"),
        ([GOOD], "cut off"),
        ({"choices": ["?"]}, "cut off"),
        ({"error": {"message": "Provider returned error", "code": 502}}, "server error"),
    ],
)
@pytest.mark.asyncio
async def test_a_transient_error_has_a_kind_after_one_request(reply: Any, kind: str) -> None:
    server = Server(reply)
    with pytest.raises(TransientError, match=r"^m [^\n]+$") as raised:
        await (await opened(server)).answer(QUESTION)
    assert raised.value.kind == kind
    assert len(server.seen) == 1


@pytest.mark.asyncio
async def test_a_hanging_request_times_out() -> None:
    model = await opened(Server(_hang), timeout=0.5)
    model._timeout = 0.05
    with pytest.raises(TransientError, match=r"m did not answer within 0\.05 s") as raised:
        await model.answer(QUESTION)
    assert raised.value.kind == "timeout"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("max tokens", code="context_length_exceeded", param="messages")),
        (
            400,
            {"object": "error", "message": "This model's maximum context length is 4096 tokens. However", "code": 400},
        ),
        (400, error("'max_completion_tokens' is too large. This model's maximum context length is 4096 tokens.")),
        (400, error("request (4476 tokens) exceeds the available size", type="exceed_context_size_error", code=400)),
        (400, {"error": "The number of tokens to keep is greater than the context length. Load a larger one"}),
        (400, error("Input tokens exceed the configured limit of 272000 tokens.")),
        (500, error("Context size has been exceeded.", type="server_error", code=500)),
        (200, error("This endpoint's maximum context length is 8192 tokens.", code=400)),
        (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"}),
        (422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 5000"}),
        (413, error("Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 7042")),
        (400, error("Please reduce the length of the messages or completion.")),
        (429, error("Request too large for m on tokens per min (TPM): Limit 10000", code="rate_limit_exceeded")),
        (400, error("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")),
        (400, error("prompt is too long: 208310 tokens > 200000 maximum")),
        (400, error("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000")),
        (413, error("Request exceeds the maximum size", type="request_too_large")),
        (400, error("Input is too long for requested model.")),
        (400, error("Input Tokens Exceeded: Number of input tokens exceeds maximum length")),
        (400, error("This model's maximum prompt length is 131072 but the request contains 537812 tokens.")),
        (400, error("Provider returned error", code=400, metadata={"raw": "prompt is too long: 9 tokens > 8 maximum"})),
        (413, PlainTextResponse("<html><head><title>413 Request Entity Too Large</title></head></html>", 413)),
    ],
)
@pytest.mark.asyncio
async def test_a_prompt_that_does_not_fit_has_its_own_error_type(status: int, body: Any) -> None:
    server = Server(body if isinstance(body, Response) else (status, body))
    with pytest.raises(
        ContextLengthExceeded, match=f"^m refused a prompt with status {status if status != 200 else 400}: "
    ):
        await (await opened(server)).answer(QUESTION)
    assert len(server.seen) == 1


@pytest.mark.asyncio
async def test_a_refusal_for_too_few_tokens_is_a_truncated_answer() -> None:
    refusal = error(
        "Could not finish the message because max_tokens or model output limit was reached. Please try again"
    )
    reply = await (await opened(Server((400, refusal)))).answer(QUESTION)
    assert (reply.text, reply.done_reason) == ("", "length")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, error("Invalid value:\n  'messages'", param="messages"), "status 400: Invalid value: 'messages'$"),
        (400, {"detail": "no such thing"}, "status 400: no such thing$"),
        (
            404,
            error("The model `m` does not exist", code="model_not_found"),
            "status 404: The model `m` does not exist$",
        ),
        (401, error("Incorrect API key provided"), r"Incorrect API key provided\. To go on: look at OPENAI_API_KEY$"),
        (403, error("You may not"), r"You may not\. To go on: look at OPENAI_API_KEY$"),
        (
            429,
            error("You exceeded your current quota", code="insufficient_quota"),
            "are kept: look at the account's plan, and run again when there is quota again$",
        ),
        (501, error("This feature is not supported", code=501), "status 501: This feature is not supported$"),
    ],
)
@pytest.mark.asyncio
async def test_a_permanent_error_is_one_line(status: int, body: Any, message: str) -> None:
    server = Server((status, body))
    with pytest.raises(ModelError, match=message) as raised:
        await (await opened(server)).answer(QUESTION)
    assert type(raised.value) is ModelError
    assert "\n" not in str(raised.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("models", [LISTED, (404, error("no list here")), (401, error("no key"))])
@pytest.mark.asyncio
async def test_a_host_that_answers_anything_passes_the_probe(models: Any) -> None:
    server = Server()
    model = await opened(server)
    server.models = models
    await model.probe()


@pytest.mark.parametrize("models", [(503, error("Loading model")), _reset])
@pytest.mark.asyncio
async def test_a_host_that_cannot_answer_yet_fails_the_probe(models: Any) -> None:
    server = Server()
    model = await opened(server)
    server.models = models
    with pytest.raises(TransientError):
        await model.probe()


@pytest.mark.asyncio
async def test_an_unknown_model_error_lists_the_five_closest_names() -> None:
    names = ["gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "whisper-1", "gpt-4", "dall-e-3"]
    unknown = (404, error("no such model"))
    server = Server(unknown, models={"object": "list", "data": [{"id": name} for name in names]})
    with pytest.raises(SelectorUnavailable, match=f"at {HOST} does not have the model 'gpt-4p'. Of the 7") as raised:
        await opened(server, "gpt-4p")
    message, _, said = str(raised.value).partition(". Asked all the same, ")
    assert said == "gpt-4p refused a request with status 404: no such model"
    closest = message.rpartition(": ")[2].split(", ")
    assert set(closest) == {"gpt-4", "gpt-4o", "gpt-4.1", "gpt-4o-mini", "gpt-4.1-mini"}


@pytest.mark.parametrize("name", ["m:nitro", "my-deployment", "openai/m", "alias"])
@pytest.mark.parametrize(
    "answer",
    [GOOD, (400, error("could not finish the message because max_tokens was reached")), (429, error("busy"))],
)
@pytest.mark.asyncio
async def test_a_model_that_is_not_listed_is_asked_and_believed(name: str, answer: Any) -> None:
    server = Server(answer, models={"data": [{"id": "m"}, {"id": "openai/*"}]})
    model = await opened(server, name)
    assert [sent["model"] for sent in server.seen] == [name]
    assert "response_format" not in server.seen[0]
    assert (model.info.name, model.info.digest) == (name, f"openai:{name}")


@pytest.mark.asyncio
async def test_a_server_of_one_model_has_one_context() -> None:
    server = Server(models={"data": [{"id": "m", "meta": {"n_ctx": 4096}}]})
    assert (await opened(server, "gpt-3.5-turbo")).context == 4096


@pytest.mark.asyncio
async def test_a_model_that_is_not_listed_is_asked_once() -> None:
    server = Server()
    for _ in range(3):
        await opened(server, "alias")
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.asyncio
async def test_a_key_that_may_not_list_models_may_ask_one(status: int) -> None:
    server = Server(models=(status, error("Missing scopes: api.model.read")))
    assert (await (await opened(server)).answer(QUESTION)).prompt_tokens == 321


@pytest.mark.asyncio
async def test_a_query_of_the_base_url_goes_with_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    host = "https://my.openai.azure.example/openai/deployments/m?api-version=2024-10-21"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", host)
    requests: list[tuple[str, str, str]] = []

    async def reply(request: HttpRequest) -> Response:
        requests.append((request.url.path, request.url.query, request.headers.get("api-key", "")))
        return JSONResponse(GOOD if request.method == "POST" else {"data": []})

    app = Starlette(routes=[Route("/{path:path}", reply, methods=["GET", "POST"])])
    with in_process(app):
        model = await open_openai("m", keys=ApiKeys.from_environment())
    await model.answer(QUESTION)
    path, query = "/openai/deployments/m", "api-version=2024-10-21"
    assert requests == [
        (f"{path}/models", query, KEY),
        (f"{path}/chat/completions", query, KEY),
        (f"{path}/chat/completions", query, KEY),
    ]


@pytest.mark.parametrize(
    "models",
    [
        (404, error("not found")),
        (500, error("not today")),
        {"object": "list", "data": []},
        {"models": ["m"]},
        PlainTextResponse("hello"),
        Response("{", media_type="application/json"),
    ],
)
@pytest.mark.parametrize("chat", [(400, error("'messages' is a required property")), (429, error("busy")), GOOD])
@pytest.mark.asyncio
async def test_a_server_without_a_model_list_is_trusted(models: Any, chat: Any) -> None:
    server = Server(chat, GOOD, models=models)
    model = await opened(server)
    assert server.seen == [{}]
    assert (await model.answer(QUESTION)).prompt_tokens == 321


@pytest.mark.parametrize(
    "everything",
    [
        (404, {"detail": "Not Found"}),
        (405, "Not Allowed"),
        {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
        PlainTextResponse("<html>Welcome"),
        Response("{", media_type="application/json"),
    ],
)
@pytest.mark.asyncio
async def test_a_wrong_base_url_is_recognised(everything: Any) -> None:
    server = Server(everything, models=everything)
    with pytest.raises(SelectorUnavailable, match=rf"{HOST} does not answer as OpenAI's does.* most end in /v1$"):
        await opened(server)


@pytest.mark.asyncio
async def test_a_host_that_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SelectorUnavailable, match=f"no server answers at http://127.0.0.1:{port}/v1. Start it"):
        await open_openai("m", host=f"http://someone:hidden@127.0.0.1:{port}/v1?secret=1", keys=ApiKeys())


@pytest.mark.asyncio
async def test_a_hanging_host_does_not_block_the_run() -> None:
    with pytest.raises(SelectorUnavailable, match="no server answers at"):
        await opened(Server(models=_hang), timeout=0.05)


@pytest.mark.parametrize("host", ["localhost:8000/v1", "ftp://model.example", "http://", "http://[::1/v1", "model"])
@pytest.mark.asyncio
async def test_a_host_that_is_not_a_url_is_refused(host: str) -> None:
    with pytest.raises(SelectorUnavailable, match=r"such as http://127\.0\.0\.1:8000/v1$"):
        await open_openai("m", host=host, keys=ApiKeys())


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.asyncio
async def test_an_error_for_a_refused_key_says_what_to_do(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = (status, error(f"Incorrect API key provided: {KEY}"))
    server = Server(refusal, models=refusal)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(SelectorUnavailable, match="OPENAI_API_KEY, and OPENAI_BASE_URL to that URL"):
        await opened(server)
    monkeypatch.setenv("OPENAI_BASE_URL", HOST)
    with pytest.raises(
        SelectorUnavailable, match=r"provided: \*\*\*\. Set OPENAI_API_KEY to a key that is good there$"
    ):
        await opened(server)
    listless = Server((status, error("no")), models=(404, error("no")))
    with pytest.raises(SelectorUnavailable, match="OPENAI_API_KEY"):
        await opened(listless)


@pytest.mark.parametrize(
    ("host", "named", "sees"),
    [
        (HOST, None, False),
        (HOST, HOST, True),
        (f"{HOST}/", HOST, True),
        (None, HOST, True),
        (None, None, True),
        ("https://api.openai.com/v1", HOST, True),
        ("https://eu.api.openai.com/v1", None, True),
        ("http://api.openai.com/v1", None, False),
        ("https://api.openai.com.example/v1", None, False),
        ("https://api.openai.com@model.example/v1", None, False),
        ("https://myapi.openai.com/v1", None, False),
        (HOST, "http://other.example/v1", False),
    ],
)
@pytest.mark.asyncio
async def test_the_key_is_sent_only_to_its_own_host(
    host: str | None, named: str | None, sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"API_KEY": KEY, "ORG_ID": "my-org", "PROJECT_ID": "my-project", "CUSTOM_HEADERS": "my-header: my-value"}
    for name, value in (secrets | {"ADMIN_KEY": "my-admin-key"}).items():
        monkeypatch.setenv(f"OPENAI_{name}", value)
    if named:
        monkeypatch.setenv("OPENAI_BASE_URL", named)
    server = Server()
    await (await opened(server, host=host)).answer(QUESTION)
    assert len(server.headers) == 2
    for headers in server.headers:
        assert (headers["authorization"] == f"Bearer {KEY}") is sees
        assert [secret in str(headers) for secret in (KEY, "my-org", "my-project")] == [sees] * 3
        assert "my-value" not in str(headers) or sees  # older clients do not send it
        assert "my-admin-key" not in str(headers)


@pytest.mark.parametrize(
    "reply",
    [
        (400, error(f"no {KEY}")),
        (401, error(f"{'x' * 190} {KEY}")),
        (401, f"{' ' * 495}{KEY}"),
        (429, error(f"busy {KEY}")),
        (400, error(f"context length {KEY}")),
        (429, error(KEY, code="insufficient_quota")),
        {"error": {"message": KEY}},
        Response(f'{{"key": "{KEY}', media_type="application/json"),
        PlainTextResponse(KEY),
    ],
)
@pytest.mark.asyncio
async def test_no_message_contains_the_key(reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = await opened(Server(reply), host=None)
    with pytest.raises(ModelError) as raised:
        await model.answer(QUESTION)
    assert KEY[:8] not in str(raised.value)


@pytest.mark.asyncio
async def test_no_message_contains_a_header_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"x-gateway: {KEY}")
    model = await opened(Server((400, error(f"no {KEY}"))), host=None)
    with pytest.raises(ModelError) as raised:
        await model.answer(QUESTION)
    assert KEY[:8] not in str(raised.value)


@pytest.mark.asyncio
async def test_a_reply_that_repeats_the_key_is_kept_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    choice = CHOICE | {"message": {"role": "assistant", "content": f"[1] {KEY}"}}
    model = await opened(Server(GOOD | {"choices": [choice]}), host=None)
    assert (await model.answer(QUESTION)).text == "[1] ***"


@pytest.mark.asyncio
async def test_a_key_with_invalid_characters_is_refused_before_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    await (await opened(server, host=None)).close()
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}…")
    with pytest.raises(SelectorUnavailable, match="holds characters that no key has") as raised:
        await opened(server, host=None)
    assert KEY not in str(raised.value)


@pytest.mark.asyncio
async def test_a_server_without_a_key_gets_a_placeholder() -> None:
    server = Server()
    await opened(server)
    assert server.headers[0]["authorization"] == f"Bearer {NO_KEY}"


@pytest.mark.asyncio
async def test_a_request_works_over_a_real_connection() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'{"choices": [{"mess'

    async def cut() -> Response:
        return StreamingResponse(broken(), headers={"content-length": "1000"}, media_type="application/json")

    server = Server(GOOD, cut, (503, error("busy")))
    async with served(server.app) as host:
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


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.asyncio
async def test_the_error_holds_the_requested_pause(status: int) -> None:
    model = await opened(Server(JSONResponse(error("busy"), status, {"retry-after": "7"})))
    with pytest.raises(TransientError) as raised:
        await model.answer(QUESTION)
    assert raised.value.retry_after == 7.0


@pytest.mark.asyncio
async def test_environment_values_of_the_client_are_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the keys decide what is sent, because the environment may belong to another host."""
    values = {"API_KEY": KEY, "ORG_ID": "my-org", "PROJECT_ID": "my-project", "CUSTOM_HEADERS": "my-header: my-value"}
    for name, value in (values | {"BASE_URL": "http://other.example/v1"}).items():
        monkeypatch.setenv(f"OPENAI_{name}", value)
    server = Server()
    with in_process(server.app):
        await open_openai("m", host=HOST, keys=ApiKeys(openai=ProviderKey("own", HOST)))
        await open_openai("m", keys=ApiKeys(openai=ProviderKey("own")))
    assert [headers["host"] for headers in server.headers] == ["model.example", "api.openai.com"]
    for headers in server.headers:
        assert headers["authorization"] == "Bearer own"
        assert not [value for value in values.values() if value in str(headers)]
        assert "my-value" not in str(headers)
