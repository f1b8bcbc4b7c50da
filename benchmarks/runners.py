"""Measures the embedding step on workers of Dask and Ray, against this process alone: speed, and the driver's memory.

    python benchmarks/runners.py [--runner dask|ray] [--workers 4] [--rows M] [--model static|transformer]

Each contender is a process of its own with an empty store and one thread for torch, and so is each of its workers. No
more is gained than there are cores, so the speed-up on two cores is 2 at most. It is given twice: of the whole step
with the start of the cluster and the load of the model in each worker, and from the first shard on. The processor time
is that of all processes: what of it goes into sending and waiting can be read even where other work takes the cores.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}  # before it is imported
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

from benchmarks.embedding import TRANSFORMER, context_of, write_static_model
from benchmarks.expectations import write_pool
from benchmarks.results import Figure, add_json, print_figures
from selectllm.execution import Executor, Inline
from selectllm.steps.embed import embed
from selectllm.steps.read_pool import read_pool

NOBODY: Final = "this process"


@dataclass
class Taken:
    """What the step took: seconds, those until the first shard was done, of processor time, and the driver's MiB."""

    seconds: float = 0.0
    until_first: float = 0.0
    first: int = 0  # rows that were done then
    rows: int = 0
    processor: float = 0.0
    memory: float = 0.0
    cpus: dict[int, float] = field(default_factory=dict)


def step(pool: Path, model: str, runner: str, workers: int) -> Taken:
    """Take the step with the workers of a runner, as the flow does."""
    with tempfile.TemporaryDirectory() as store:
        context = context_of(pool, model, store)
        executor: Executor = Inline()
        if runner != NOBODY:
            from tasks.runners import PrefectExecutor
            from tasks.settings import FlowSettings

            executor = PrefectExecutor(FlowSettings.model_validate({"runner": runner, "workers": workers}))
        taken, stop = Taken(), threading.Event()
        watching = threading.Thread(target=watch, args=(taken, stop))

        def progress(_step: str, done: int, total: int) -> None:
            if done and not taken.first:
                taken.first, taken.rows, taken.until_first = done, total, time.perf_counter() - started

        context = replace(context, executor=executor, progress=progress)
        rows = read_pool(context)
        rows.table(context.store)
        own = time.process_time()
        watching.start()
        started = time.perf_counter()
        embed(context, rows)
        taken.seconds = time.perf_counter() - started
        stop.set()
        watching.join()
        taken.processor = time.process_time() - own + sum(taken.cpus.values())
    taken.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return taken


def watch(taken: Taken, stop: threading.Event) -> None:
    """Note the processor time of all processes that this one has begun, until they are gone or the step ends."""
    import psutil

    while not stop.wait(0.5):
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                times = process.cpu_times()
                taken.cpus[process.pid] = times.user + times.system


def in_flow(pool: Path, model: str, runner: str, workers: int, results: Connection) -> None:
    """Take the step inside a flow of Prefect's, where its runners belong, in a process of its own."""
    from prefect import flow
    from prefect.testing.utilities import prefect_test_harness

    if runner == NOBODY:
        results.send(step(pool, model, runner, workers))
        return
    with prefect_test_harness(server_startup_timeout=300):
        results.send(flow(validate_parameters=False)(step)(pool, model, runner, workers))


def measured(*arguments: Any) -> Taken:
    """What the step takes in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=in_flow, args=(*arguments, theirs))
    process.start()
    theirs.close()  # otherwise a dead process would be awaited for ever
    taken: Taken = ours.recv()
    process.join()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", nargs="+", choices=("dask", "ray"), default=["dask", "ray"])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--model", choices=("static", "transformer"), default="transformer")
    add_json(parser)
    arguments = parser.parse_args()
    figures, workers = list[Figure](), arguments.workers
    with tempfile.TemporaryDirectory() as folder:
        pool, model = Path(folder) / "pool.jsonl", TRANSFORMER
        write_pool(pool, arguments.rows)
        if arguments.model == "static":
            model = f"{folder}/static"
            write_static_model(Path(model))
        taken = {name: measured(pool, model, name, workers) for name in (NOBODY, *arguments.runner)}
    alone = taken[NOBODY]
    print(f"{os.cpu_count()} cores, {workers} workers, {arguments.rows:,} rows, model: {arguments.model}")
    print(f"{'':12} {'s':>7} {'to first':>8} {'rows/s then':>11} {'processor s':>11} {'driver MiB':>10}")
    rates = {name: (one.rows - one.first) / (one.seconds - one.until_first) for name, one in taken.items()}
    for name, one in taken.items():
        print(
            f"{name:12} {one.seconds:>7.1f} {one.until_first:>8.1f} {rates[name]:>11,.0f} {one.processor:>11.1f} "
            f"{one.memory:>10,.0f}"
        )
    for name in arguments.runner:
        what = f"{name}, {workers} workers"
        figures.append(Figure(f"{what}: rows a second from the first shard on", NOBODY, rates[name] / rates[NOBODY]))
        figures.append(Figure(f"{what}: speed of the whole step", NOBODY, alone.seconds / taken[name].seconds))
        figures.append(Figure(f"{what}: processor time of all", NOBODY, taken[name].processor / alone.processor))
        figures.append(Figure(f"{what}: the driver's memory", NOBODY, taken[name].memory / alone.memory))
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
