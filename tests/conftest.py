"""Shared helpers: small pools, a cheap embedder and fake models."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from selectllm import cancellation
from selectllm.llm.caller import Caller, CostLimit
from selectllm.llm.hosts import HostPool
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import ChatModel, ModelInfo, Reply, Request
from selectllm.settings import RankingSettings, RunSettings
from selectllm.store import Store

if TYPE_CHECKING:
    from tests.campaign import Undisturbed

ONE_PROCESS = ("tests/flows/", "tests/deployments/", "tests/quality/")
"""Folders of tests that import Prefect or Great Expectations. Imports take seconds, so one process runs all of them."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of a file in one process, and the tests of ONE_PROCESS together in one process."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "together" if nodeid.startswith(ONE_PROCESS) else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first."""
    items.sort(key=lambda item: (not item.nodeid.startswith(ONE_PROCESS), item.path.parent != Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Let the embedded model use one thread: see tests/__init__.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("selectllm.llm.embedded.THREADS", 1)
        yield


@pytest.fixture(scope="session")
def shared_environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of the clients of the session's Prefect server."""
    from tests.prefect_server import shared_server

    with shared_server(request.config, tmp_path_factory.getbasetemp()) as environment:
        yield environment


@pytest.fixture(scope="session")
def undisturbed() -> "Undisturbed":
    """The results of an undisturbed run, with which killed and stopped runs are compared."""
    from tests.campaign import undisturbed_run

    return undisturbed_run()


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync, so that no test waits for the disk. test_campaign.py checks syncs in its own processes."""
    monkeypatch.setattr("os.fsync", lambda _handle: None)


@pytest.fixture(autouse=True)
def unstopped() -> None:
    """Begin each test without a cancellation."""
    cancellation.reset()


@pytest.fixture(autouse=True)
def unvalidated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch validation off for command lines: Great Expectations takes seconds to import."""
    monkeypatch.setenv("SELECTLLM_QUALITY__NO_VALIDATE", "true")


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch validation on, as by default."""
    monkeypatch.delenv("SELECTLLM_QUALITY__NO_VALIDATE")


@pytest.fixture
def shared() -> Path:
    """The folder of real data beside the checkout; the test is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("the real data is not beside this checkout")
    return SHARED


class HashEmbedder:
    """Makes vectors from digests: deterministic, of unit length, without a model."""

    digest = "hash-embedder"
    texts = 0

    def load(self) -> None:
        """Nothing has to be loaded."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        type(self).texts += len(texts)
        seeds = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds]).astype(np.float32)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


@pytest.fixture
def quick_embedding(monkeypatch: pytest.MonkeyPatch) -> type[HashEmbedder]:
    """Embed with `HashEmbedder` instead of a model."""
    HashEmbedder.texts = 0
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _name: HashEmbedder())
    return HashEmbedder


def write_pool(path: Path, rows: int) -> Path:
    """Write a pool of `rows` different instructions."""
    lines = [json.dumps({"instruction": f"Task {n}: " + "explain it " * (n % 17 + 1), "tag": n}) for n in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunSettings]:
    """Settings of a run on a pool of `rows` rows, in a store of this test's own; fields as in RunSettings."""

    def make(rows: int = 60, **fields: Any) -> RunSettings:
        pool = tmp_path / f"pool{rows}.jsonl"
        if not pool.exists():
            write_pool(pool, rows)
        settings: dict[str, Any] = {
            "pool": str(pool),
            "budget": 5,
            "selector": "scripted:longest",
            "store": str(tmp_path / "store"),
        }
        settings["quality"] = {
            "no_validate": True
        }  # Great Expectations takes seconds to import: it has tests of its own
        return RunSettings.model_validate(settings | fields)

    return make


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A URL for this test on a real S3 server. The environment holds its address and keys."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    import fsspec

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    host, port = running.get_host_and_port()
    settings = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (settings | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    if not files.exists("pools"):  # buckets survive a restart of the server
        files.mkdir("pools")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield f"s3://pools/{tmp_path.name}"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    running.stop()


class FakeModel:
    """A model that answers each request by a function and records the requests."""

    context = None
    host = "http://fake"

    def __init__(self, answer: Callable[[Request], Reply | str]) -> None:
        self.info = ModelInfo("fake", "fake", "fake-digest", "1", "model", "listwise")
        self.asked: list[Request] = []
        self.longest = 0
        self.is_closed = False
        self._answer = answer

    async def prepare(self, longest: int, max_tokens: int) -> None:
        self.longest = longest

    async def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        answer = self._answer(request)
        return Reply(answer, "stop", prompt_tokens=10, output_tokens=2) if isinstance(answer, str) else answer

    async def probe(self) -> None:
        pass

    async def verify(self) -> None:
        pass

    async def close(self) -> None:
        self.is_closed = True


def top_k(request: Request) -> int:
    """The number of candidates to rank; 0 for a pointwise request."""
    return int(request.schema["properties"]["ranking"]["minItems"]) if request.schema else 0


def by_id(request: Request) -> str:
    """The right answer of a model that prefers lower ids."""
    numbered = sorted(enumerate(request.shown, start=1), key=lambda pair: pair[1])
    return json.dumps({"ranking": [number for number, _ in numbered[: top_k(request)]]})


def by_rating(request: Request) -> Reply | str:
    """Rates a row by its id, and answers with as many words."""
    merit = int(request.shown[0], 16) % 97
    if request.logprobs:
        return Reply("4", "length", 10, 1, logprobs={"5": -0.01 * merit, "0": -0.5})
    if request.schema is None:
        return " ".join(f"w{number}" for number in range(2 + merit % 60))
    if "rating" not in request.schema["properties"]:
        return json.dumps({"reason": "It is."}) if "reason" in request.schema["properties"] else by_id(request)
    allowed = request.schema["properties"]["rating"]["enum"]
    return json.dumps({"rating": allowed[merit % len(allowed)]})


def make_caller(model: ChatModel, folder: Path, limit: CostLimit | None = None, **options: Any) -> Caller:
    """A caller of a model whose ledger is in a folder; options as in RankingSettings."""
    hosts = HostPool([model], RankingSettings(**{"concurrency": 1, **options}), model.info)
    return Caller(hosts, Ledger(Store(str(folder)), model.info), limit or CostLimit())


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeModel]:
    """Let every run of this process use a model that answers by a function."""

    def make(answer: Callable[[Request], Reply | str] = by_id) -> FakeModel:
        model = FakeModel(answer)

        async def connect(*_: object) -> FakeModel:
            return model

        monkeypatch.setattr("selectllm.llm._connect", connect)
        return model

    return make
