"""A key is sent only to its own host, and no message and no reply shows it."""

from typing import Any

import pytest
from starlette.responses import PlainTextResponse, Response

from selectllm.errors import ModelError, SelectorUnavailable
from selectllm.llm.keys import ApiKeys, ProviderKey
from selectllm.llm.openai import open_openai
from selectllm.llm.openai_client import NO_KEY
from tests.llm.in_process import in_process
from tests.llm.openai_server import CHOICE, GOOD, HOST, KEY, QUESTION, Server, error, opened

pytestmark = pytest.mark.usefixtures("no_openai_environment")


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


@pytest.mark.asyncio
async def test_a_failed_generation_that_repeats_the_key_is_kept_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    failed = error("Failed to generate JSON.", code="json_validate_failed", failed_generation=f"[1] {KEY}")
    model = await opened(Server((400, failed)), host=None)
    assert (await model.answer(QUESTION)).text == "[1] ***"
