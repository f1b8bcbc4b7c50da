"""The fake server: its faults look real to the official client, and its good answers follow the description."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from ollama import AsyncClient, ChatResponse, ResponseError

from selectllm.ranking.prompts import Candidate, Prompt, listwise, pointwise
from selectllm.testing.faulty_ollama import DIGEST, FaultyOllama
from selectllm.testing.ollama_answers import LABELS, REFUSALS, Fault, merit

OPENAPI = Path(__file__).resolve().parents[3] / "shared/data/ollama_openapi.yaml"
# U+2028 is a line break for Python, but JSON does not escape it.
CANDIDATES = [Candidate(f"{number}", f"Task\u2028{number}", "given" if number % 2 else None) for number in range(6)]
BEST = sorted((candidate.instruction for candidate in CANDIDATES), key=merit, reverse=True)
PROMPT = listwise(CANDIDATES, 3, seed=0)


@asynccontextmanager
async def client_of(server: FaultyOllama, timeout: float = 5.0) -> AsyncIterator[AsyncClient]:
    client = AsyncClient(host=server.host, timeout=timeout)
    try:
        yield client
    finally:
        await client._client.aclose()


async def chat(client: AsyncClient, prompt: Prompt = PROMPT, **options: Any) -> ChatResponse:
    messages = [{"role": "user", "content": prompt.text}]
    return await client.chat("m", messages, format=prompt.schema, options=options)


def ranked(answer: ChatResponse, prompt: Prompt = PROMPT) -> list[str]:
    numbers = json.loads(answer.message.content or "")["ranking"]
    return [prompt.candidates[number - 1].instruction for number in numbers]


@pytest.fixture(scope="module")
def conforms() -> Callable[[str, Any], None]:
    """Check that an answer follows Ollama's description and has no unknown field."""
    if not OPENAPI.is_file():
        pytest.skip("Ollama's OpenAPI description is not here")
    spec = yaml.safe_load(OPENAPI.read_text())

    def check(schema: str, answer: Any) -> None:
        Draft202012Validator(spec | {"$ref": f"#/components/schemas/{schema}"}).validate(answer)
        assert set(answer) <= set(spec["components"]["schemas"][schema]["properties"])

    return check


# Good answers


@pytest.mark.asyncio
async def test_a_good_answer_ranks_by_merit_and_follows_the_schema() -> None:
    with FaultyOllama() as server:
        async with client_of(server) as client:
            answer = await chat(client)
        server.wait_idle()
        assert (answer.done, answer.done_reason) == (True, "stop")
        assert len(PROMPT.text) / 8 < (answer.prompt_eval_count or 0) < len(PROMPT.text) / 2
        assert ranked(answer) == BEST[:3]
        assert server.answered == [(PROMPT.text, tuple(BEST[:3]))]
        assert server.requests == {"/api/chat": 1}
        assert server.asked[0]["format"] == PROMPT.schema
        assert server.first_at == server.last_at


@pytest.mark.asyncio
async def test_every_response_follows_the_openapi_description(conforms: Callable[[str, Any], None]) -> None:
    chat_body = {"messages": [{"role": "user", "content": PROMPT.text}], "format": PROMPT.schema}
    point = {"prompt": pointwise(CANDIDATES[0]).text, "raw": True, "logprobs": True, "top_logprobs": 20}
    with FaultyOllama() as server:
        async with httpx.AsyncClient(base_url=server.host) as client:
            for path, schema, body in (
                ("/api/chat", "ChatResponse", chat_body),
                ("/api/chat", "ChatResponse", {"messages": []}),
                ("/api/generate", "GenerateResponse", point),
                ("/api/show", "ShowResponse", {}),
            ):
                answer = await client.post(path, json={"model": "m", "stream": False} | body)
                assert answer.status_code == 200
                conforms(schema, answer.json())
            for path, event, body in (
                ("/api/chat", "ChatStreamEvent", chat_body),
                ("/api/generate", "GenerateStreamEvent", point),
            ):
                answer = await client.post(path, json={"model": "m"} | body)
                *pieces, last = map(json.loads, answer.text.splitlines())
                for piece in pieces:
                    conforms(event, {name: value for name, value in piece.items() if name != "logprobs"})
                conforms(event.replace("StreamEvent", "Response"), last)
                assert pieces
                assert last["done"]
                assert last["eval_count"] > 0
            for path, schema in (("version", "VersionResponse"), ("tags", "ListResponse"), ("ps", "PsResponse")):
                conforms(schema, (await client.get(f"/api/{path}")).json())
            for path, entry in (("tags", "ModelSummary"), ("ps", "Ps")):
                conforms(entry, (await client.get(f"/api/{path}")).json()["models"][0])


@pytest.mark.asyncio
async def test_the_official_client_works_with_the_server() -> None:
    with FaultyOllama(context_length=8192) as server:
        async with client_of(server) as client:
            assert [(listed.model, listed.digest) for listed in (await client.list()).models] == [("m:latest", DIGEST)]
            assert ((await client.show("m")).modelinfo or {})["llama.context_length"] == 8192
            assert not (await client.ps()).models
            await client.chat("m", [], options={"num_ctx": 100_000})
            assert (await client.ps()).models[0].context_length == 8192
            with pytest.raises(ResponseError, match=r"model 'other' not found") as refused:
                await client.chat("other", [])
            assert refused.value.status_code == 404
        assert server.loads == [8192]


@pytest.mark.asyncio
async def test_a_stream_gives_the_same_answer_as_a_single_response() -> None:
    with FaultyOllama() as server:
        async with client_of(server) as client:
            messages = [{"role": "user", "content": PROMPT.text}]
            pieces = [piece async for piece in await client.chat("m", messages, format=PROMPT.schema, stream=True)]
            assert "".join(piece.message.content or "" for piece in pieces) == (await chat(client)).message.content
            assert [piece.done for piece in pieces] == [False, False, True]


@pytest.mark.asyncio
async def test_a_raw_prompt_returns_the_odds_of_both_labels() -> None:
    with FaultyOllama() as server:
        async with client_of(server) as client:
            for candidate in CANDIDATES:
                answer = await client.generate(
                    "m", pointwise(candidate).text, raw=True, logprobs=True, options={"num_predict": 1}
                )
                assert answer.logprobs is not None
                odds = {token.token: token.logprob for token in answer.logprobs[0].top_logprobs or ()}
                assert set(odds) == set(LABELS)
                assert (odds[" yes"] > odds[" no"]) == (merit(candidate.instruction) > 0.5)
                assert answer.response == max(odds, key=odds.__getitem__)
                assert answer.done_reason == "length"


@pytest.mark.asyncio
async def test_a_too_long_prompt_is_refused_or_silently_truncated() -> None:
    with FaultyOllama(context_length=100) as server:
        async with client_of(server) as client:
            assert (await chat(client)).prompt_eval_count == 52
        body = {"model": "m", "messages": [{"role": "user", "content": PROMPT.text}], "truncate": False}
        async with httpx.AsyncClient() as plain:
            refused = await plain.post(f"{server.host}/api/chat", json=body)
        assert refused.status_code == 400
        assert "exceeds the context length" in refused.json()["error"]


# Faults


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("busy", ResponseError, r"server busy, please try again\.  maximum pending requests exceeded"),
        ("runner died", ResponseError, "model runner has unexpectedly stopped"),
        ("runner killed", ResponseError, "llama runner process no longer running: -1"),
        ("reset", httpx.ReadError, None),
        ("hang", httpx.ReadTimeout, None),
        ("cut", httpx.RemoteProtocolError, "peer closed connection"),
    ],
)
@pytest.mark.asyncio
async def test_a_connection_fault_raises_the_real_client_error(
    fault: Fault, error: type[Exception], message: str | None
) -> None:
    with FaultyOllama({fault: 1.0}) as server:
        async with client_of(server, timeout=0.3) as client:
            for _ in range(2):
                with pytest.raises(error, match=message) as failed:
                    await chat(client)
            assert ranked(await chat(client)) == BEST[:3]
        server.wait_idle()
        assert server.injected == {fault: 2}
        assert len(server.answered) == 1
        assert getattr(failed.value, "status_code", None) == REFUSALS.get(fault, (None,))[0]


@pytest.mark.parametrize(
    ("fault", "is_faulty"),
    [
        ("unfinished", lambda answer: not answer.done and answer.prompt_eval_count is None),
        ("empty", lambda answer: answer.message.content == ""),
        ("wrong ids", lambda answer: json.loads(answer.message.content) == {"ranking": [7, 8, 9]}),
        ("repeated ids", lambda answer: len(ranked(answer)) == 3 and set(ranked(answer)) == {BEST[0]}),
        ("prose", lambda answer: not set(answer.message.content) & set("{}[]0123456789")),
        ("low count", lambda answer: answer.prompt_eval_count < 40 and ranked(answer) == BEST[:2:-1]),
    ],
)
@pytest.mark.asyncio
async def test_an_answer_fault_has_status_200(fault: Fault, is_faulty: Callable[[Any], bool]) -> None:
    with FaultyOllama({fault: 1.0}, most_in_a_row=1) as server:
        async with client_of(server) as client:
            assert is_faulty(await chat(client))
            assert ranked(await chat(client)) == BEST[:3]
        assert server.injected == {fault: 1}


@pytest.mark.asyncio
async def test_streams_can_also_be_truncated_or_unfinished() -> None:
    async def pieces(client: AsyncClient) -> list[ChatResponse]:
        messages = [{"role": "user", "content": PROMPT.text}]
        return [piece async for piece in await client.chat("m", messages, format=PROMPT.schema, stream=True)]

    with FaultyOllama({"cut": 1.0}) as server:
        async with client_of(server) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await pieces(client)
    with FaultyOllama({"unfinished": 1.0}) as server:
        async with client_of(server) as client:
            assert not any(piece.done for piece in await pieces(client))


@pytest.mark.asyncio
async def test_a_rephrased_question_gets_a_limited_number_of_faults_in_a_row() -> None:
    with FaultyOllama({"prose": 1.0}) as server:
        async with client_of(server) as client:
            for prompt in (PROMPT, PROMPT.again("it was not JSON", 2), PROMPT.again("it was not JSON", 3)):
                answer = await chat(client, prompt)
        assert ranked(answer) == BEST[:3]


@pytest.mark.asyncio
async def test_the_same_questions_get_the_same_faults_at_any_concurrency() -> None:
    questions = [listwise([Candidate("a", f"A{n}"), Candidate("b", f"B{n}")], 1, seed=0) for n in range(60)]
    faults = {"busy": 0.2, "prose": 0.2, "reset": 0.1}

    async def ask_until_answered(client: AsyncClient, prompt: Prompt, places: asyncio.Semaphore) -> list[str]:
        seen = []
        async with places:
            while True:
                try:
                    content = (await chat(client, prompt)).message.content or ""
                except (ResponseError, httpx.TransportError) as error:
                    seen.append(type(error).__name__)
                    continue
                if content.startswith("{"):
                    return seen
                seen.append("prose")

    async def run(concurrency: int, seed: int) -> tuple[list[list[str]], dict[str, int]]:
        places = asyncio.Semaphore(concurrency)
        with FaultyOllama(faults, seed=seed) as server:
            async with client_of(server) as client:
                seen = await asyncio.gather(*(ask_until_answered(client, prompt, places) for prompt in questions))
            server.wait_idle()
            assert server.most_at_once <= concurrency
            return seen, dict(server.injected)

    alone, together, other = await run(1, 0), await run(8, 0), await run(8, 1)
    assert alone == together != other
    assert set(alone[1]) == set(faults)
    assert max(map(len, alone[0])) == 2


def test_unknown_faults_and_shares_above_one_are_refused() -> None:
    assert len(get_args(Fault)) == 12
    with pytest.raises(ValueError, match="unknown faults: flood"):
        FaultyOllama({"flood": 0.1})
    with pytest.raises(ValueError, match="more than 1"):
        FaultyOllama({"busy": 0.6, "reset": 0.6})


# Load


@pytest.mark.asyncio
async def test_requests_beyond_the_parallel_limit_queue_and_report_it() -> None:
    with FaultyOllama(delay=0.05, parallel=2) as server:
        async with client_of(server) as client:
            answers = await asyncio.gather(*(chat(client) for _ in range(6)))
        queued = sorted(
            ((answer.total_duration or 0) - (answer.prompt_eval_duration or 0) - (answer.eval_duration or 0)) / 1e9
            for answer in answers
        )
        assert queued[1] < 0.02
        assert queued[2] > 0.04
        assert queued[4] > 0.08
        assert server.most_at_once == 6


@pytest.mark.asyncio
async def test_a_disconnected_client_frees_its_place() -> None:
    with FaultyOllama(delay=20, parallel=1) as server:
        async with client_of(server, timeout=0.1) as client:
            for _ in range(2):
                with pytest.raises(httpx.ReadTimeout):
                    await chat(client)
        server.wait_idle()
        assert server.most_at_once == 1
        assert not server.answered


@pytest.mark.asyncio
async def test_a_paused_server_does_not_answer_until_it_resumes() -> None:
    with FaultyOllama(delay=0.2) as server:
        async with client_of(server) as client:
            under_way = asyncio.create_task(chat(client))
            await asyncio.sleep(0.1)
            server.pause()
            with pytest.raises(httpx.ReadError):
                await under_way
            with pytest.raises(ConnectionError):
                await chat(client)
            server.resume()
            assert ranked(await chat(client)) == BEST[:3]


def test_waiting_for_a_busy_server_times_out() -> None:
    async def give_up_waiting(server: FaultyOllama) -> None:
        async with client_of(server) as client:
            under_way = asyncio.create_task(chat(client))
            await asyncio.sleep(0.1)
            with pytest.raises(TimeoutError, match="1 questions are still under way"):
                server.wait_idle(0.01)
            under_way.cancel()

    with FaultyOllama(delay=20) as server:
        asyncio.run(give_up_waiting(server))
        server.wait_idle()
