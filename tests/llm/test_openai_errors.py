"""Errors of servers that speak OpenAI's API, and whether each can pass."""

from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from selectllm.errors import ContextLengthExceeded, ModelError, ModelUnavailable, TransientError
from tests.llm.openai_server import GOOD, LISTED, QUESTION, Server, error, hang, opened

pytestmark = pytest.mark.usefixtures("no_openai_environment")


async def _reset() -> Response:
    raise httpx.ReadError("connection reset")


async def _garbled() -> Response:
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


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
    model = await opened(Server(hang), timeout=0.5)
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
    assert type(raised.value) is (ModelError if status in (400, 501) else ModelUnavailable)
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


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.asyncio
async def test_the_error_holds_the_requested_pause(status: int) -> None:
    model = await opened(Server(JSONResponse(error("busy"), status, {"retry-after": "7"})))
    with pytest.raises(TransientError) as raised:
        await model.answer(QUESTION)
    assert raised.value.retry_after == 7.0
