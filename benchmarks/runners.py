"""Measures the embedding step on workers of Dask and Ray against this process alone: speed, processor time, memory.

    python benchmarks/runners.py [--runner dask ray] [--workers 4] [--rows 12288] [--shard 1024] [--model NAME]

Each contender is a process of its own with an empty store, and one thread for torch, as each of its workers has. Speed
is that of the rows behind the first shard of each worker: by then the cluster runs and every worker has its model. More
is not to be gained than there are cores. The processor time is that of all processes without Prefect's server, and
shows the cost of workers where other work takes the cores, too. The driver is the process that hands the work out.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}  # before it is imported
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": sys.path[0]}

from benchmarks.embedding import TRANSFORMER, context_of, write_static_model
from benchmarks.expectations import write_pool
from benchmarks.results import Figure, add_json, print_figures
from benchmarks.startup import flow_environment
from selectllm.execution import Executor, Inline
from selectllm.steps.embed import embed
from selectllm.steps.embed_rows import SHARD_ROWS
from selectllm.steps.read_pool import read_pool

NOBODY: Final = "this process"


@dataclass(frozen=True)
class Moment:
    """How far the step is: rows done, seconds since it began, and processor time of the driver and its processes."""

    rows: int = 0
    seconds: float = 0.0
    processor: float = 0.0


@dataclass(frozen=True)
class Taken:
    """What a contender took: until each worker had done a shard, until all rows were done, and the driver's MiB."""

    first: Moment
    last: Moment
    memory: float

    @property
    def rate(self) -> float:
        """Rows a second behind the first shards."""
        return (self.last.rows - self.first.rows) / (self.last.seconds - self.first.seconds)

    @property
    def effort(self) -> float:
        """Processor time, in ms, of a row behind the first shards."""
        return 1000 * (self.last.processor - self.first.processor) / (self.last.rows - self.first.rows)


def processor_seconds() -> float:
    """User and system time of this process and of all that it has begun and that still run."""
    import psutil

    total = time.process_time()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def peak_memory() -> float:
    """MiB that this process has held at most; its `ru_maxrss` would begin with what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def step(pool: Path, model: str, runner: str, workers: int, shard: int) -> Taken:
    """Take the step with the workers of a runner, as the flow does, in shards of so many rows."""
    executor: Executor = Inline()
    if runner != NOBODY:
        from tasks.runners import PrefectExecutor
        from tasks.settings import FlowSettings

        executor = PrefectExecutor(FlowSettings.model_validate({"runner": runner, "workers": workers}))
    with tempfile.TemporaryDirectory() as store, patch("selectllm.steps.embed_rows.SHARD_ROWS", shard):
        context = context_of(pool, model, store)
        moments = list[Moment]()

        def note(_step: str, done: int, _total: int) -> None:
            moments.append(Moment(done, time.perf_counter() - started, processor_seconds() - before))

        context = replace(context, executor=executor, progress=note)
        rows = read_pool(context)
        rows.table(context.store)
        started, before = time.perf_counter(), processor_seconds()
        embed(context, rows)
    return Taken(moments[workers], moments[-1], peak_memory())


def in_flow(results: Connection, pool: Path, model: str, runner: str, workers: int, shard: int) -> None:
    """Take the step inside a flow of Prefect's, where its runners belong, and send what it took."""
    from prefect import flow

    from benchmarks import runners  # workers look the flow up by this name: they have another main module

    take = runners.step if runner == NOBODY else flow(validate_parameters=False)(runners.step)
    results.send(take(pool, model, runner, workers, shard))


def measured(pool: Path, model: str, runner: str, workers: int, shard: int) -> Taken:
    """What the step takes in a process of its own, which is also printed."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=in_flow, args=(theirs, pool, model, runner, workers, shard))
    process.start()
    theirs.close()  # otherwise a dead process would be awaited for ever
    taken: Taken = ours.recv()
    process.join()
    first, last = taken.first, taken.last
    print(
        f"{runner:12} {first.seconds:>7.1f} {first.processor:>11.1f} {taken.rate:>10,.1f} {taken.effort:>7.2f} "
        f"{last.seconds:>7.1f} {last.processor:>11.1f} {taken.memory:>10,.0f}",
        flush=True,
    )
    return taken


def compared(name: str, one: Taken, alone: Taken) -> list[Figure]:
    """How a contender stands against this process alone."""
    speed, work = alone.last.seconds / one.last.seconds, one.last.processor / alone.last.processor
    return [
        Figure(f"{name}: rows a second, once each worker has done a shard", NOBODY, one.rate / alone.rate),
        Figure(f"{name}: processor time of a row, from then on", NOBODY, one.effort / alone.effort),
        Figure(f"{name}: speed of the whole step", NOBODY, speed),
        Figure(f"{name}: processor time of the whole step", NOBODY, work),
        Figure(f"{name}: the driver's memory", NOBODY, one.memory / alone.memory),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", nargs="+", choices=("dask", "ray"), default=["dask", "ray"])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=12_288)
    parser.add_argument("--shard", type=int, default=SHARD_ROWS, help="rows of a shard")
    parser.add_argument("--model", choices=("static", "transformer"), default="transformer")
    add_json(parser)
    arguments = parser.parse_args()
    workers, shard = arguments.workers, arguments.shard
    if arguments.rows < (workers + 2) * shard:  # less than one of them is what the pool's own duplicates take away
        parser.error(f"--rows must be {(workers + 2) * shard:,} or more: a shard for each worker, and more behind them")
    from prefect.testing.utilities import prefect_test_harness

    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=600):
        os.environ |= flow_environment()
        pool, model = Path(folder) / "pool.jsonl", TRANSFORMER
        write_pool(pool, arguments.rows)
        if arguments.model == "static":
            model = f"{folder}/static"
            write_static_model(Path(model))
        print(
            f"{os.cpu_count()} cores, {workers} workers, {arguments.rows:,} rows, shards of {shard}, {arguments.model}"
        )
        print(f"{'':12} {'a shard each':>19} {'from then on':>18} {'the whole step':>19} {'driver':>10}")
        print(f"{'':12} {'s':>7} {'CPU s':>11} {'rows/s':>10} {'ms/row':>7} {'s':>7} {'CPU s':>11} {'MiB':>10}")
        names = (NOBODY, *arguments.runner)
        taken = {name: measured(pool, model, name, workers, shard) for name in names}
    figures = [
        figure
        for name in arguments.runner
        for figure in compared(f"{name}, {workers} workers", taken[name], taken[NOBODY])
    ]
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
