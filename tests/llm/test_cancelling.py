"""A cancelled run ends soon, keeps all replies, and says how to continue."""

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
from selectllm.errors import Stopped, UsageError
from selectllm.llm.model import Request
from selectllm.settings import RunSettings
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import FakeModel, by_id, write_pool

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from tests.conftest import HashEmbedder
from selectllm.embedding import models
models.open_embedder = lambda _: HashEmbedder()
if sys.argv.pop(1) == "flow":
    from flows.commands import selection_app
    from flows.selection import select_instructions
    from selectllm.cli.main import run_app
    sys.exit(run_app(selection_app(select_instructions)))
from selectllm.cli.main import main
sys.exit(main(["select", *sys.argv[1:]]))
"""


@pytest.mark.slow  # test_campaign.py also stops a run during requests
@pytest.mark.parametrize(
    ("entry", "number"),
    [(entry, number) for entry in ("library", "flow") for number in (signal.SIGTERM, signal.SIGINT)],
)
def test_a_signal_stops_a_run_soon_and_the_next_run_continues(entry: str, number: int, tmp_path: Path) -> None:
    write_pool(tmp_path / "pool.jsonl", 2800)
    with FaultyOllama(delay=0.2, parallel=4) as server:
        command = [sys.executable, "-c", PROGRAM, entry, str(tmp_path / "pool.jsonl"), "--budget", "20"]
        command += ["--selector", "ollama:m", "--host", server.host, "--store", str(tmp_path / "store")]
        environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
        run = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        end = time.monotonic() + 120
        while len(server.answered) < 8:
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)
        run.send_signal(number)
        stopped_at = len(server.answered)
        _, stderr = run.communicate(timeout=60)
        server.wait_idle()
    assert run.returncode == 1
    assert "selectllm: stopped. What was made and paid for is kept" in stderr
    assert "Traceback" not in stderr
    assert len(server.answered) <= stopped_at + 12, "only requests in flight were answered, of 200 questions"
    kept = [line for path in (tmp_path / "store").rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(kept) >= stopped_at - 4


def test_a_run_can_be_cancelled_from_another_thread(
    make_run: Callable[..., RunSettings], fake_model: Callable[..., FakeModel], quick_embedding: object
) -> None:
    def cancel(request: Request) -> str:
        cancellation.cancel()
        return by_id(request)

    fake_model(cancel)
    with pytest.raises(Stopped, match="run the same again"):
        select(make_run(rows=600, ranking={"concurrency": 1}))
    fake_model(by_id)
    assert len(select(make_run(rows=600)).table()) == 5, "a new run starts without a cancellation"


def test_an_interrupt_cancels_only_the_task_that_asks() -> None:
    async def ask() -> None:
        with cancellation.cancel_on_signal():
            asyncio.get_running_loop().call_soon(cancellation.interrupt)
            await asyncio.sleep(60)

    with pytest.raises(Stopped):
        asyncio.run(ask())


def test_an_interrupt_is_raised_while_nothing_is_asked() -> None:
    with pytest.raises(KeyboardInterrupt):
        cancellation.interrupt()
    with pytest.raises(Stopped):
        cancellation.raise_if_cancelled()


@pytest.mark.parametrize(("out", "message"), [("s3://bucket/out", "is a URL"), ("{tmp}/file", "is a file")])
def test_an_output_folder_is_checked_before_any_request(
    out: str, message: str, make_run: Callable[..., RunSettings], fake_model: Callable[..., FakeModel], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    model = fake_model()
    with pytest.raises(UsageError, match=message):
        select(make_run(out=out.format(tmp=tmp_path)))
    assert not model.asked
