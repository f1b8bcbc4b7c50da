"""Runs real command lines against a slow server, kills them, and checks the files that they leave."""

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
    *("--history", "weekly", "--slot", "first", "--looks", "0.4"),
)
"""Twenty queries, ranked in two blocks, the second of which the budget cuts: every step has something to do."""

BY_TIERS: Final = ("--gather", "tiers")

SECOND_BLOCK: Final = "are ranked, and the budget is 27"

AT_RISK: Final = CONCURRENCY
"""Questions that a killed run can lose: requests in flight, and replies that wait for the disk."""

STEPS: Final = (
    "quarantine",
    "pool",
    "embeddings",
    "centroids",
    "queries",
    "rankings",
    "looks",
    "ratings",
    "preferences",
    "selection",
)
ARTIFACTS: Final = tuple(f"{step}.{end}" for step in STEPS for end in ("parquet", "json"))
PLACES: Final = (*ARTIFACTS, "vectors", "replies", "history", "runs", "latest", "out")
"""The places to which a run writes."""

STOPPED: Final = "selectllm: stopped. What was made and paid for is kept: run the same again to go on from here\n"

PRELOAD: Final = [
    *(
        "tests.boundaries",
        "sklearn.cluster",
        "scipy.optimize",
        "anyio._backends._asyncio",
        "pydantic_settings",
        "dotenv",
    ),
    *("selectllm.cli.environment", "selectllm.llm.ollama", "selectllm.report.format", "selectllm.strategies.selectllm"),
    *("selectllm.evaluation.mt_bench.run", "selectllm.evaluation.alpaca_eval.outputs", "selectllm.cli.evaluate"),
]
"""Modules that are imported before a run is forked."""

PROGRAM: Final = """
import json, sys
from tests.boundaries import Order, run
run(Order(**json.loads(sys.argv[1])))
"""

Question = tuple[str, int]
"""The digest of a prompt's text, and the seed."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its code, negative for a signal, its stderr, and the moments that it reached."""

    code: int
    stderr: str  # without the message about a second block
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
        """Wait for the end of the run. After the timeout, kill it and raise TimeoutError."""
        code = self._wait(timeout)
        if code is None:
            self.signal(signal.SIGKILL)
            self._wait(10)
            raise TimeoutError(f"the run had not ended after {timeout} s")
        return self._finish(code)


class Scene:
    """A pool, a store and an output folder for runs that are killed or stopped.

    Parameters: `entry`, the command line to run; `disk`, a folder for the store and the output, else in `folder`;
    `validated`, whether the tables are validated.
    """

    command: tuple[str, ...] = ("select",)

    def __init__(
        self,
        folder: Path,
        server: FaultyOllama,
        entry: Literal["library", "flow"] = "library",
        disk: Path | None = None,
        environment: Mapping[str, str] | None = None,
        validated: bool = False,
    ) -> None:
        self.folder, self.server, self.entry = folder, server, entry
        self.store, self.out = (disk or folder) / "store", (disk or folder) / "out"
        # Great Expectations takes longer to import than all else to do: few runs validate.
        pageless = ("--no-report",) if entry == "flow" else ()  # a page takes longer to make than all else
        self._settings = (*SETTINGS, f"--no-validate={str(not validated).lower()}", *pageless)
        self._environment = environment
        self._pool = write_pool(folder / "pool.jsonl", ROWS)
        self._runs = 0
        self.more: tuple[str, ...] = ()  # further options

    def run(self, moment: str = "", nth: int = 1, blow: Blow = "kill", **order: Any) -> Ended:
        """Run until the process ends."""
        return self.begin(moment, nth, blow, **order).end()

    def begin(self, moment: str = "", nth: int = 1, blow: Blow = "kill", fresh: bool = False, **order: Any) -> Running:
        """Begin a run. A blow hits it when a moment comes for the n-th time.

        With `fresh`, and always for the flow, the run is a new interpreter. Otherwise it is forked from a process that
        has already imported everything, which saves most of the time.
        """
        self._runs += 1
        stderr, log = self.folder / f"stderr-{self._runs}", self.folder / f"moments-{self._runs}"
        order_with_files = Order(
            entry=self.entry,
            command=self.command,
            arguments=self._arguments(),
            inside=[str(self.store), str(self.out)],
            log=str(log),
            moment=moment,
            nth=nth,
            blow=blow,
            stdout=str(stderr) + "-out",
            stderr=str(stderr),
            **order,
        )
        begun = len(self.server.asked)
        pid, wait = (
            _fresh(order_with_files, self._environment) if fresh or self.entry == "flow" else _forked(order_with_files)
        )

        def finish(code: int) -> Ended:
            self.server.wait_idle()
            moments = log.read_text().splitlines() if log.exists() else []
            lines = [line for line in stderr.read_text().splitlines(keepends=True) if SECOND_BLOCK not in line]
            return Ended(code, "".join(lines), moments, [_question(asked) for asked in self.server.asked[begun:]])

        return Running(pid, wait, finish)

    def _arguments(self) -> list[str]:
        folders = ("--store", str(self.store), "--out", str(self.out))
        return [str(self._pool), *self._settings, *self.more, "--host", self.server.host, *folders]

    def wait_for(self, reached: Callable[[FaultyOllama], bool], run: Running) -> None:
        """Return as soon as the server has seen enough of the run."""
        deadline = time.monotonic() + 120
        while not reached(self.server):
            if run.is_over() or time.monotonic() > deadline:
                raise TimeoutError(f"the server never reached the expected state: {run.end()}")
            time.sleep(0.002)

    def selection(self) -> bytes:
        """The published selection."""
        return (self.out / "selection.jsonl").read_bytes()

    def kept(self) -> set[Question]:
        """The questions whose replies are durable: each is a complete line of the ledger."""
        lines = [line for path in self._ledgers() for line in path.read_bytes().split(b"\n")]
        entries = [entry for entry in map(_parsed, lines) if entry and "key" in entry]
        return {(entry["prompt"], entry["seed"]) for entry in entries}

    def temporaries(self) -> list[Path]:
        """Files that were being written."""
        return sorted(path for root in (self.store, self.out) for path in root.rglob(".*.tmp"))

    def faults(self) -> list[str]:
        """Violations of what must always hold: every file with its final name is complete."""
        faults = []
        for path in sorted((*self.store.rglob("*.json"), *self.out.glob("*.json"))):
            if not path.name.startswith(".") and _parsed(path.read_bytes()) is None:
                faults.append(f"{path} is no JSON")
        for path in sorted((*self.store.rglob("*.parquet"), *self.out.glob("*.parquet"))):
            if not path.name.startswith("."):
                faults += _readable(path)
        for path in self.store.glob("v1/artifacts/*/[!.]*.json"):
            manifest, table = _parsed(path.read_bytes()) or {}, path.with_suffix(".parquet")
            if not table.exists() or hashlib.sha256(table.read_bytes()).hexdigest() != manifest.get("sha256"):
                faults.append(f"{table} is not what its manifest says")
        for path in self._ledgers():
            *lines, _ = path.read_bytes().split(b"\n")
            faults += [f"{path} has a torn line that is not its last" for line in lines if _parsed(line) is None]
        if (self.out / "summary.json").exists():
            names = ("selection.jsonl", "selection.parquet", "quarantine.parquet")
            faults += [f"{name} is missing beside summary.json" for name in names if not (self.out / name).exists()]
        return faults

    def _ledgers(self) -> list[Path]:
        return sorted(self.store.glob("v1/replies/**/*.jsonl"))


@dataclass(frozen=True)
class Undisturbed:
    """The results of an undisturbed run."""

    selection: bytes = field(repr=False)
    questions: int
    pages: int  # of 4 KiB, that a store and an output folder take


@cache
def undisturbed_run(more: tuple[str, ...] = ()) -> Undisturbed:
    """An undisturbed run in its own interpreter, store and folder; once per test session."""
    with TemporaryDirectory() as folder, FaultyOllama(delay=DELAY, parallel=CONCURRENCY) as server:
        scene = Scene(Path(folder), server)
        scene.more = more
        ended = scene.begin(fresh=True).end()
        assert (ended.code, ended.stderr, scene.faults()) == (0, "", []), (ended, scene.faults())
        assert len(ended.questions) == len(scene.kept()), "each reply is asked for once, and kept"
        files = [path for root in (scene.store, scene.out) for path in root.rglob("*") if path.is_file()]
        pages = sum(-(-path.stat().st_size // 4096) for path in files)
        return Undisturbed(scene.selection(), len(ended.questions), pages)


def check_goes_on(scene: Scene, undisturbed: Undisturbed, *, deaths: int = 0, failures: int = 0) -> Ended:
    """Check that every file is complete, and that the next run continues as if undisturbed.

    `deaths` counts killed runs before it; `failures` counts runs that failed because of the disk.
    """
    faults = scene.faults()
    assert not faults, faults
    kept = scene.kept()
    done = scene.run()
    assert done.code == 0, done
    assert done.stderr == "" or scene.entry == "flow", done  # Prefect logs there
    assert scene.selection() == undisturbed.selection, "the selection differs from that of an undisturbed run"
    again = kept & set(done.questions)
    assert not again, f"{len(again)} durable replies were asked for again"
    assert len(set(done.questions)) == len(done.questions), "a question was asked twice in one run"
    repeated = len(scene.server.asked) - undisturbed.questions
    most = AT_RISK * deaths + (AT_RISK + CONCURRENCY) * failures  # after a failed request, another request can start
    assert repeated <= most, f"{repeated} questions were asked again"
    assert len(scene.kept()) == undisturbed.questions, "the questions differ from those of an undisturbed run"
    faults = scene.faults()
    assert not faults, faults
    return done


def short(every: int, moments: Sequence[tuple[str, int]]) -> list[Any]:
    """Parameters of a test. One of `every` is run in the short suite."""
    return [pair if n % every == 2 else pytest.param(*pair, marks=pytest.mark.slow) for n, pair in enumerate(moments)]


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
    context.set_forkserver_preload(PRELOAD)
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
    if "messages" not in asked:
        return digest(asked["prompt"]), asked["options"]["seed"]
    *before, last = ([turn["role"], turn["content"]] for turn in asked["messages"])
    return digest(last[1], before) if before else digest(last[1]), asked["options"]["seed"]


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        parsed: dict[str, Any] = json.loads(content)
        return parsed
    except ValueError:
        return None


def _readable(path: Path) -> list[str]:
    try:
        pq.ParquetFile(path).read(use_threads=False)
    except Exception as error:  # Arrow raises various errors for a damaged file
        return [f"{path} cannot be read: {error}"]
    return []
