"""What a server's refusal of a field, a prompt or an answer teaches."""

import asyncio
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from selectllm.errors import ContentRefused, ModelError
from selectllm.llm.context_guard import warn_once
from tests.llm.openai_server import CHOICE, GOOD, QUESTION, Server, error, opened

pytestmark = pytest.mark.usefixtures("no_openai_environment")


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
