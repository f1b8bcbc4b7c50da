"""Opening a model behind OpenAI's API: its server, its base URL and the list of models."""

import socket
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from selectllm.errors import SelectorUnavailable
from selectllm.llm.keys import ApiKeys
from selectllm.llm.openai import open_openai
from tests.llm.in_process import in_process
from tests.llm.openai_server import GOOD, HOST, KEY, QUESTION, Server, error, hang, opened

pytestmark = pytest.mark.usefixtures("no_openai_environment")


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
        await opened(Server(models=hang), timeout=0.05)


@pytest.mark.parametrize("host", ["localhost:8000/v1", "ftp://model.example", "http://", "http://[::1/v1", "model"])
@pytest.mark.asyncio
async def test_a_host_that_is_not_a_url_is_refused(host: str) -> None:
    with pytest.raises(SelectorUnavailable, match=r"such as http://127\.0\.0\.1:8000/v1$"):
        await open_openai("m", host=host, keys=ApiKeys())
