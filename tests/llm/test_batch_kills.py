"""A run in batches that is killed at any moment: the next one takes up what was sent, and pays for no answer twice."""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from tests import boundaries
from tests.boundaries import Order
from tests.campaign import PRELOAD
from tests.conftest import write_pool
from tests.llm.batch_server import BatchServer
from tests.llm.openai_server import serve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to find the file of a handle")

SETTINGS: Final = (
    *("--budget", "12", "--query-size", "5", "--selector", "openai:m", "--batch", "--reasons", "--think", "off"),
    *("--looks", "0.4", "--no-validate"),
)
STAGES: Final = ("uploading", "uploaded", "creating", "created", "polled", "downloading")
WRITING: Final = ("half written", "not renamed", "renamed")
MOMENTS: Final = [
    *((f"{what} batches", nth) for nth in (1, 2, 3, 4) for what in WRITING),  # the record, and then its id
    *((f"{what} batches", nth) for nth in (1, 2) for what in ("not removed", "removed")),
    *((f"{what} replies", nth) for nth in (1, 2, 4) for what in ("opened", "half written", "not synced", "synced")),
    *((f"{what} rankings.parquet", 1) for what in WRITING),
]


class Scene:
    """A pool and a store, and a server with batches."""

    def __init__(self, folder: Path, server: BatchServer, url: str) -> None:
        self.folder, self.server, self._url, self._runs = folder, server, url, 0
        write_pool(folder / "pool.jsonl", 60)

    def begin(self, moment: str = "", nth: int = 1) -> BaseProcess:
        """Begin a run, which is killed when a moment comes for the n-th time."""
        self._runs += 1
        pool, store, out = (str(self.folder / name) for name in ("pool.jsonl", "store", "out"))
        order = Order(
            entry="library",
            arguments=[pool, *SETTINGS, "--host", self._url, "--store", store, "--out", out],
            inside=[store, out],
            log=str(self.folder / f"moments-{self._runs}"),
            moment=moment,
            nth=nth,
            stdout=str(self.folder / f"stdout-{self._runs}"),
            stderr=str(self.folder / f"stderr-{self._runs}"),
        )
        context = multiprocessing.get_context("forkserver")  # which has imported everything
        context.set_forkserver_preload([*PRELOAD, "openai", "selectllm.llm.batch_pool"])
        process = context.Process(target=boundaries.run, args=(order,), daemon=True)
        process.start()
        return process

    def run(self, moment: str = "", nth: int = 1) -> int:
        """Run until the process ends; returns its code, negative for a signal."""
        return ended(self.begin(moment, nth))

    def said(self) -> str:
        """What the last run wrote to stderr."""
        return (self.folder / f"stderr-{self._runs}").read_text()

    def selection(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "out" / "selection.jsonl").read_text().splitlines()]

    def records(self) -> list[Path]:
        return sorted(self.folder.glob("store/v1/batches/*/[!.]*.json"))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    server = BatchServer()
    with serve(server.app) as url:
        yield Scene(tmp_path, server, url)
        server.is_over = True


def ended(process: BaseProcess) -> int:
    """Wait for the end of a process; returns its code."""
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError("the run had not ended after 120 s")
    return process.exitcode


@cache
def undisturbed() -> tuple[list[Any], set[str], list[int]]:
    """What an undisturbed run chooses, what it asks, and how many questions each of its batches has."""
    server = BatchServer()
    with TemporaryDirectory() as folder, serve(server.app) as url:
        scene = Scene(Path(folder), server, url)
        assert scene.run() == 0, scene.said()
        assert set(server.paid.values()) == {1}
        return scene.selection(), set(server.paid), server.sizes()


def check_goes_on(scene: Scene) -> None:
    """Check that the next run ends as an undisturbed one, and that each answer was paid for once."""
    assert scene.run() == 0, scene.said()
    selection, questions, sizes = undisturbed()
    assert scene.selection() == selection
    assert set(scene.server.paid) == questions
    assert set(scene.server.paid.values()) == {1}, "an answer was paid for twice"
    assert scene.server.sizes() == sizes
    assert scene.records() == []


@pytest.mark.parametrize("nth", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize(
    "stage", [stage if stage == "created" else pytest.param(stage, marks=pytest.mark.slow) for stage in STAGES]
)
def test_a_run_killed_while_the_server_answers_goes_on(stage: str, nth: int, scene: Scene) -> None:
    scene.server.looks = 2 if stage == "polled" else 1
    scene.server.hold, scene.server.passes = stage, nth - 1
    run = scene.begin()
    assert scene.server.held.wait(60), scene.said()
    run.kill()
    assert ended(run) == -signal.SIGKILL
    check_goes_on(scene)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "nth"), MOMENTS)
def test_a_run_killed_while_it_writes_goes_on(moment: str, nth: int, scene: Scene) -> None:
    assert scene.run(moment, nth) == -signal.SIGKILL, f"the moment never came: {scene.said()}"
    check_goes_on(scene)


@pytest.mark.slow
def test_a_run_killed_again_and_again_goes_on(scene: Scene) -> None:
    for moment, nth in [
        ("renamed batches", 1),
        ("opened replies", 1),
        ("not removed batches", 1),
        ("synced replies", 2),
    ]:
        assert scene.run(moment, nth) == -signal.SIGKILL, scene.said()
    check_goes_on(scene)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_leaves_its_batch_and_says_how_to_go_on(number: signal.Signals, scene: Scene) -> None:
    scene.server.looks = 10**9
    run = scene.begin()
    while not any(json.loads(path.read_bytes())["id"] for path in scene.records()):
        assert run.is_alive(), scene.said()
    assert run.pid
    os.kill(run.pid, number)
    assert ended(run) == 1
    assert "the batch batch_0 of 12 questions goes on at" in scene.said()
    assert "stopped. What was made and paid for is kept: run the same again" in scene.said()
    assert scene.server.batches["batch_0"]["status"] == "validating", "it is not cancelled"
    scene.server.looks = 1
    check_goes_on(scene)
    assert "the batch batch_0, which an earlier run or another one has sent, is taken up" in scene.said()


@pytest.mark.slow
def test_two_runs_at_once_pay_once(scene: Scene) -> None:
    scene.server.looks = 2
    runs = [scene.begin(), scene.begin()]
    assert [ended(run) for run in runs] == [0, 0], scene.said()
    selection, questions, _ = undisturbed()
    assert scene.selection() == selection
    assert set(scene.server.paid) == questions
    assert set(scene.server.paid.values()) == {1}
