"""Stopping a run: soon, with everything kept, and saying how to go on."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from selectllm import cancellation, select
from selectllm.errors import ModelError, Stopped, UsageError
from selectllm.llm import HostPool, Reply, Request
from selectllm.llm.ledger import Ledger
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker, RankingOptions, gather_or_raise
from selectllm.settings import RunSettings
from selectllm.store import Store
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import ToldModel, by_id, write_pool

ROOT = Path(__file__).resolve().parents[1]
CANDIDATES = [Candidate(f"{number:02}", f"Task {number}") for number in range(20)]

PROGRAM = """
import sys
from tests.conftest import HashEmbedder
from selectllm.embedding import models
models.open_embedder = lambda _: HashEmbedder()
if sys.argv.pop(1) == "flow":
    from flows.command_line import main
    from flows.selection import select_instructions
    sys.exit(main(select_instructions))
from selectllm.cli.main import main
sys.exit(main(["select", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("door", ["library", pytest.param("flow", marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_soon_and_the_next_goes_on(door: str, number: int, tmp_path: Path) -> None:
    write_pool(tmp_path / "pool.jsonl", 2800)
    with FaultyOllama(delay=0.2, parallel=4) as server:
        command = [sys.executable, "-c", PROGRAM, door, str(tmp_path / "pool.jsonl"), "--budget", "20"]
        command += ["--selector", "ollama:m", "--host", server.host, "--store", str(tmp_path / "store")]
        environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
        run = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        patience = time.monotonic() + 120
        while len(server.answered) < 8:
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < patience
            time.sleep(0.02)
        run.send_signal(number)
        stopped_at = len(server.answered)
        _, told = run.communicate(timeout=60)
        server.wait_idle()
    assert run.returncode == 1
    assert "selectllm: stopped. What was made and paid for is kept" in told
    assert "Traceback" not in told
    assert len(server.answered) <= stopped_at + 12, "of 200 questions no more than those under way were answered"
    kept = [line for path in (tmp_path / "store").rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(kept) >= stopped_at - 4


def test_a_stop_from_another_thread_is_heard(
    make_run: Callable[..., RunSettings], told_model: Callable[..., ToldModel], quick_embedding: object
) -> None:
    def stops(request: Request) -> str:
        cancellation.stop()
        return by_id(request)

    told_model(stops)
    with pytest.raises(Stopped, match="run the same again"):
        select(make_run(rows=600, ranking={"concurrency": 1}))
    told_model(by_id)
    assert len(select(make_run(rows=600)).table()) == 5, "a new run begins afresh"


def test_replies_that_came_before_a_failure_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def slow(handle: int) -> None:
        time.sleep(0.1)
        sync(handle)

    monkeypatch.setattr("os.fsync", slow)

    class Fails(ToldModel):
        async def answer(self, request: Request) -> Reply:
            await asyncio.sleep(0.01 * len(self.asked))
            if len(self.asked) == 7:
                await asyncio.sleep(0.05)
                raise ModelError("gone")
            return await super().answer(request)

    async def run() -> None:
        model = Fails(by_id)
        ledger = Ledger(Store(str(tmp_path)), model.card)
        asker = Ranker(HostPool([model], concurrency=1), ledger, RankingOptions())
        try:
            await gather_or_raise(asker.rank(CANDIDATES[: 3 + size], 1, "query") for size in range(10))
        finally:
            await ledger.close()

    with pytest.raises(ModelError, match="gone"):
        asyncio.run(run())
    kept = [line for path in tmp_path.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(kept) == 7


def test_a_store_that_fails_in_its_own_way_does_not_leave_a_run_hanging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "_append", lambda *_: (_ for _ in ()).throw(RuntimeError("no credentials")))

    async def run() -> None:
        model = ToldModel(by_id)
        asker = Ranker(HostPool([model], concurrency=1), Ledger(Store(str(tmp_path)), model.card), RankingOptions())
        await asyncio.wait_for(asker.rank(CANDIDATES, 1, "query"), 5)

    with pytest.raises(RuntimeError, match="no credentials"):
        asyncio.run(run())


@pytest.mark.parametrize(("out", "said"), [("s3://bucket/out", "is a URL"), ("{tmp}/file", "is a file")])
def test_an_output_folder_is_looked_at_before_anything_is_asked(
    out: str, said: str, make_run: Callable[..., RunSettings], told_model: Callable[..., ToldModel], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    model = told_model()
    with pytest.raises(UsageError, match=said):
        select(make_run(out=out.format(tmp=tmp_path)))
    assert not model.asked
