"""Runs real command lines against a slow server, has them die, and looks at what they left behind."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import pyarrow.parquet as pq
import pytest

from selectllm.store import digest
from selectllm.testing.faulty_ollama import FaultyOllama
from tests import boundaries
from tests.boundaries import Blow, Order
from tests.conftest import write_pool

ROOT: Final = Path(__file__).resolve().parents[1]
ROWS: Final = 100
CONCURRENCY: Final = 4
DELAY: Final = 0.02
SETTINGS: Final = (
    *("--budget", "27", "--depth", "1", "--query-size", "5", "--selector", "ollama:m"),
    *("--history", "weekly", "--slot", "first"),
)
"""Twenty queries, ranked in two blocks, the second of which the budget cuts: every step has something to do."""

SECOND_BLOCK: Final = "are ranked, and the budget is 27"

AT_RISK: Final = CONCURRENCY
"""Questions that a death may have had asked in vain: those under way, and those whose replies waited for the disk."""

STEPS: Final = (
    "quarantine",
    "pool",
    "embeddings",
    "centroids",
    "queries",
    "rankings",
    "tournament",
    "preferences",
    "selection",
)
ARTIFACTS: Final = tuple(f"{step}.{end}" for step in STEPS for end in ("parquet", "json"))
PLACES: Final = (*ARTIFACTS, "vectors", "replies", "history", "runs", "latest", "out")
"""Where something is made durable in the course of a run."""

STOPPED: Final = "selectllm: stopped. What was made and paid for is kept: run the same again to go on from here\n"

PROGRAM: Final = """
import json, sys
from tests.boundaries import Order, run
run(Order(**json.loads(sys.argv[1])))
"""

Question = tuple[str, int]
"""The digest of a prompt's text, and the seed."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its code, negative for a signal, what it told, and the moments it lived to see."""

    code: int
    told: str  # on stderr, but for what is told of a second block
    moments: list[str] = field(repr=False)
    questions: list[Question] = field(repr=False)


class Running:
    """A process under way."""

    def __init__(self, pid: int, wait: Callable[[float], int | None], finish: Callable[[int], Ended]) -> None:
        self.pid, self._wait, self._finish = pid, wait, finish

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def is_over(self) -> bool:
        return self._wait(0) is not None

    def end(self, timeout: float = 120) -> Ended:
        """Wait for its end; one that does not come is brought about, and raises TimeoutError."""
        code = self._wait(timeout)
        if code is None:
            self.signal(signal.SIGKILL)
            self._wait(10)
            raise TimeoutError(f"the run had not ended after {timeout} s")
        return self._finish(code)


class Scene:
    """A pool, a store and an output folder in which runs live and die.

    Parameters: `door`, whose command line is run; `disk`, a folder for the store and the output, else in `folder`;
    `judged`, whether the tables are validated.
    """

    def __init__(
        self,
        folder: Path,
        server: FaultyOllama,
        door: Literal["library", "flow"] = "library",
        disk: Path | None = None,
        environment: Mapping[str, str] | None = None,
        judged: bool = False,
    ) -> None:
        self.folder, self.server, self.door = folder, server, door
        self.store, self.out = (disk or folder) / "store", (disk or folder) / "out"
        # Great Expectations takes longer to import than all else to do: few runs are judged.
        self._settings = (*SETTINGS, f"--no-validate={str(not judged).lower()}")
        self._environment = environment
        self._pool = write_pool(folder / "pool.jsonl", ROWS)
        self._runs = 0

    def run(self, moment: str = "", nth: int = 1, blow: Blow = "kill", **order: Any) -> Ended:
        """Run to the end, whichever it is."""
        return self.begin(moment, nth, blow, **order).end()

    def begin(self, moment: str = "", nth: int = 1, blow: Blow = "kill", fresh: bool = False, **order: Any) -> Running:
        """Begin a run, on which a blow falls when a moment comes for the n-th time.

        `fresh`, and always by the flow's door, it is a new interpreter; else it is forked from one that has imported
        everything, which a run spends most of its time on.
        """
        self._runs += 1
        told, log = self.folder / f"told-{self._runs}", self.folder / f"moments-{self._runs}"
        given = Order(
            door=self.door,
            arguments=[str(self._pool), *self._settings, "--host", self.server.host, *self._folders()],
            inside=[str(self.store), str(self.out)],
            log=str(log),
            moment=moment,
            nth=nth,
            blow=blow,
            stdout=str(told) + "-out",
            stderr=str(told),
            **order,
        )
        begun = len(self.server.asked)
        pid, wait = _fresh(given, self._environment) if fresh or self.door == "flow" else _forked(given)

        def finish(code: int) -> Ended:
            self.server.wait_idle()
            moments = log.read_text().splitlines() if log.exists() else []
            lines = [line for line in told.read_text().splitlines(keepends=True) if SECOND_BLOCK not in line]
            return Ended(code, "".join(lines), moments, [_question(one) for one in self.server.asked[begun:]])

        return Running(pid, wait, finish)

    def _folders(self) -> tuple[str, ...]:
        return "--store", str(self.store), "--out", str(self.out)

    def wait_for(self, reached: Callable[[FaultyOllama], bool], run: Running) -> None:
        """Return as soon as the server has seen enough of the run."""
        patience = time.monotonic() + 120
        while not reached(self.server):
            if run.is_over() or time.monotonic() > patience:
                raise TimeoutError(f"the server never saw what was waited for: {run.end()}")
            time.sleep(0.002)

    def selection(self) -> bytes:
        """What was chosen, as it was published."""
        return (self.out / "selection.jsonl").read_bytes()

    def kept(self) -> set[Question]:
        """The questions whose replies are durable: each a whole line of the ledger."""
        lines = [line for path in self._ledgers() for line in path.read_bytes().split(b"\n")]
        found = [one for one in map(_parsed, lines) if one and "key" in one]
        return {(one["prompt"], one["seed"]) for one in found}

    def temporaries(self) -> list[Path]:
        """Files that were being written."""
        return sorted(path for root in (self.store, self.out) for path in root.rglob(".*.tmp"))

    def faults(self) -> list[str]:
        """What is not as it must be at every moment: whatever bears its final name is whole."""
        found = []
        for path in sorted((*self.store.rglob("*.json"), *self.out.glob("*.json"))):
            if not path.name.startswith(".") and _parsed(path.read_bytes()) is None:
                found.append(f"{path} is no JSON")
        for path in sorted((*self.store.rglob("*.parquet"), *self.out.glob("*.parquet"))):
            if not path.name.startswith("."):
                found += _readable(path)
        for path in self.store.glob("v1/artifacts/*/[!.]*.json"):
            manifest, table = _parsed(path.read_bytes()) or {}, path.with_suffix(".parquet")
            if not table.exists() or hashlib.sha256(table.read_bytes()).hexdigest() != manifest.get("sha256"):
                found.append(f"{table} is not what its manifest says")
        for path in self._ledgers():
            *lines, _ = path.read_bytes().split(b"\n")
            found += [f"{path} has a torn line that is not its last" for line in lines if _parsed(line) is None]
        if (self.out / "summary.json").exists():
            names = ("selection.jsonl", "selection.parquet", "quarantine.parquet")
            found += [f"{name} is missing beside summary.json" for name in names if not (self.out / name).exists()]
        return found

    def _ledgers(self) -> list[Path]:
        return sorted(self.store.glob("v1/replies/**/*.jsonl"))


@dataclass(frozen=True)
class Undisturbed:
    """What a run that nothing befalls comes to."""

    selection: bytes = field(repr=False)
    questions: int
    pages: int  # of 4 KiB, that a store and an output folder take


@cache
def undisturbed_run() -> Undisturbed:
    """A run that nothing befalls, in an interpreter, a store and a folder of its own; once in a session of tests."""
    with TemporaryDirectory() as folder, FaultyOllama(delay=DELAY, parallel=CONCURRENCY) as server:
        scene = Scene(Path(folder), server)
        ended = scene.begin(fresh=True).end()
        assert (ended.code, ended.told, scene.faults()) == (0, "", []), (ended, scene.faults())
        assert len(ended.questions) == len(scene.kept()), "each reply is asked for once, and kept"
        files = [path for root in (scene.store, scene.out) for path in root.rglob("*") if path.is_file()]
        pages = sum(-(-path.stat().st_size // 4096) for path in files)
        return Undisturbed(scene.selection(), len(ended.questions), pages)


def check_goes_on(scene: Scene, undisturbed: Undisturbed, *, deaths: int = 0, failures: int = 0) -> Ended:
    """See that all is whole, and that the next run ends as if nothing had happened, asking only what is not kept.

    `deaths` and `failures` of runs before it, which a disk that refuses brings about.
    """
    faults = scene.faults()
    assert not faults, faults
    kept = scene.kept()
    done = scene.run()
    assert done.code == 0, done
    assert done.told == "" or scene.door == "flow", done  # Prefect logs there
    assert scene.selection() == undisturbed.selection, "another selection than that of an undisturbed run"
    again = kept & set(done.questions)
    assert not again, f"{len(again)} durable replies were asked for again"
    assert len(set(done.questions)) == len(done.questions), "a question was asked twice in one run"
    repeated = len(scene.server.asked) - undisturbed.questions
    most = AT_RISK * deaths + (AT_RISK + CONCURRENCY) * failures  # one that fails makes room for another to be asked
    assert repeated <= most, f"{repeated} questions were asked again"
    assert len(scene.kept()) == undisturbed.questions, "other questions than those of an undisturbed run"
    faults = scene.faults()
    assert not faults, faults
    return done


def short(every: int, moments: Sequence[tuple[str, int]]) -> list[Any]:
    """Parameters of a test, of which one in so many is run when time is short."""
    return [one if n % every == 2 else pytest.param(*one, marks=pytest.mark.slow) for n, one in enumerate(moments)]


def _forked(order: Order) -> tuple[int, Callable[[float], int | None]]:
    process = _context().Process(target=boundaries.run, args=(order,), daemon=True)
    process.start()
    assert process.pid

    def wait(timeout: float) -> int | None:
        process.join(timeout)
        return process.exitcode

    return process.pid, wait


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.boundaries", "sklearn.cluster", "scipy.optimize", "ollama"])
    return context


def _fresh(order: Order, environment: Mapping[str, str] | None) -> tuple[int, Callable[[float], int | None]]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(order))]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)

    def wait(timeout: float) -> int | None:
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    return process.pid, wait


def _question(asked: Mapping[str, Any]) -> Question:
    return digest(asked["messages"][-1]["content"]), asked["options"]["seed"]


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(content)
        return found
    except ValueError:
        return None


def _readable(path: Path) -> list[str]:
    try:
        pq.ParquetFile(path).read(use_threads=False)
    except Exception as error:  # whatever Arrow makes of a damaged file
        return [f"{path} cannot be read: {error}"]
    return []
