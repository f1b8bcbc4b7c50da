"""Measures the processor time of commands that have nothing left to do: `--help`, a warm run, a warm flow.

    python benchmarks/startup.py [--rows 14000] [--times 5] [--no-flow]

Each command is a process of its own, and counts with all processor time of that process, the least of several. All
results of the warm runs are in the store: its vectors are drawn, and the selector is a fixed rule. The flows talk to
one server, whose time does not count.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}  # before it is imported

from benchmarks.results import Figure, add_json, print_figures

DIMENSION = 384
BUDGET = 1000

EMPTY_FLOW = "from prefect import flow\n@flow\ndef empty() -> None: ...\nempty()"

EMPTY_TASKS = """
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

@task(cache_policy=NO_CACHE, persist_result=False)
def do_nothing() -> None: ...

@flow
def empty(run: dict) -> None:
    for _ in range(13):
        do_nothing.submit().result()

empty({"pool": "pool.jsonl"})
"""
"""A flow that is given something, which Prefect turns into JSON, and has as many task runs as the warm flow."""

READING = "import cyclopts, pydantic, fsspec, pyarrow.parquet, pyarrow.compute, rich.table"
"""What a run reads its options and its tables with, and prints a table with."""


def processor_seconds(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """User and system time of a process of Python's, and of the processes that it has waited for."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def write_pool(path: Path, rows: int) -> None:
    rng = random.Random(0)
    words = [f"word{number}" for number in range(3000)]
    texts = (f"Task {row}: " + " ".join(rng.choices(words, k=rng.randint(5, 80))) for row in range(rows))
    path.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in texts), encoding="utf-8")


class DrawnVectors:
    """Draws vectors under the digest of the real model, so that a run with that model finds them in the store."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def load(self) -> None:
        """Nothing has to be loaded."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Draw a unit vector for each text."""
        vectors = (
            np.random.default_rng(zlib.crc32("".join(texts).encode()))
            .normal(size=(len(texts), DIMENSION))
            .astype(np.float32)
        )
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def run_cold(pool: Path, store: Path) -> None:
    """Fill the store by a run that does everything but embed."""
    from selectllm import RunSettings, select
    from selectllm.embedding import models

    settings = RunSettings(pool=str(pool), budget=BUDGET, selector="scripted:longest", store=str(store))
    drawn = DrawnVectors(models.open_embedder(settings.embedding.model).digest)
    with patch("selectllm.embedding.models.open_embedder", lambda _name: drawn):
        select(settings)


def flow_environment() -> dict[str, str]:
    """The environment of clients of the test harness's server."""
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}


def measure(arguments: argparse.Namespace, folder: Path) -> list[Figure]:
    pool, store = folder / "pool.jsonl", folder / "store"
    write_pool(pool, arguments.rows)
    run_cold(pool, store)
    run = [str(pool), "--budget", str(BUDGET), "--selector", "scripted:longest", "--store", str(store)]

    def least(*command: str, environment: Mapping[str, str] | None = None) -> float:
        return min(processor_seconds(command, environment) for _ in range(arguments.times))

    shown, bare = least("-m", "selectllm", "--help"), least("-c", "import cyclopts")
    warm, reading = least("-m", "selectllm", "select", *run), least("-c", READING)
    rows = f"processor time of a warm run on {arguments.rows:,} rows"
    figures = [
        Figure("processor time of `selectllm --help`", "", shown, "s", at_most=0.4),
        Figure("processor time of `selectllm --help`", "the import of the library that reads options", shown / bare),
        Figure(rows, "", warm, "s", at_most=1.0 if arguments.rows <= 14_000 else None),
        Figure(rows, "the imports that it reads and prints with", warm / reading),
    ]
    if not arguments.no_flow:
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            there = flow_environment()
            empty, tasks = (least("-c", text, environment=there) for text in (EMPTY_FLOW, EMPTY_TASKS))
            processor_seconds(["-m", "flows.selection", *run], there)  # the first one makes the report
            flow = least("-m", "flows.selection", *run, environment=there)
        figures.append(Figure("the same as a flow", "an empty flow", flow / empty, at_most=1.5))
        figures.append(Figure("the same as a flow", "a flow with a parameter and 13 empty tasks", flow / tasks))
        figures.append(Figure(rows, "an empty flow", warm / empty))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=14_000)
    parser.add_argument("--times", type=int, default=5, help="runs of each command, of which the least counts")
    parser.add_argument("--no-flow", action="store_true", help="leave the Prefect flow out")
    add_json(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments, Path(folder))
    for figure in figures:
        against = f"against {figure.against}" if figure.against else ""
        print(f"{figure.what:<48} {figure.value:>7.2f} {figure.unit} {against}")
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
