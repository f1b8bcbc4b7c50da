"""Measures the ledger of replies: replies kept one after the other, the ledger reopened, and every reply looked up.

    python benchmarks/ledger.py [--rows M] [--at-once K] [--store folder|bucket]

Once in a folder, whose files grow, and once in a store of which no file can be added to, as in a bucket: there each
group of replies is a file. That store lies on the same disk, behind fsspec's `dir`, so no request takes time. Each step
is a process of its own, and is measured for M replies and for a quarter of them: what is linear takes as long for each.
Processor time is counted, and memory beyond that of a ledger without replies.
"""

import argparse
import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.store import Store

INFO: Final = ModelInfo("scripted", "scripted", "digest", "1", "model", "listwise")

TEXT: Final = '{"ranking": [3, 9, 14, 1, 7, 2, 11, 5, 4, 15, 6, 12, 10, 8, 13]}'

STORES: Final = {"folder": "{folder}", "bucket": "dir::file://{folder}"}


@dataclass(frozen=True)
class Step:
    """What a step took: seconds of processor time, and the most memory of its process in MiB."""

    seconds: float
    memory: float
    files: int = 0


def request(number: int) -> Request:
    """A question that shows 15 rows."""
    return Request(f"question {number}", shown=tuple(f"{number + place:032x}" for place in range(15)))


def keep(location: str, rows: int, at_once: int) -> Step:
    """Keep replies, so many at once, as a run does; `files` are the most that there were to list."""
    store, most = Store(location), 0

    async def run() -> None:
        nonlocal most
        ledger = Ledger(store, INFO)
        for first in range(0, rows, at_once):
            numbers = range(first, min(first + at_once, rows))
            await asyncio.gather(*(ledger.add(request(n), INFO, Reply(TEXT, "stop", 1800, 60)) for n in numbers))
            most = max(most, len(ledger._read))  # what it has listed last
        await ledger.close()

    asyncio.run(run())
    return Step(time.process_time(), 0, most)


def reopen(location: str, _rows: int, _at_once: int) -> Step:
    """Open the ledger again."""
    started = time.process_time()
    ledger = Ledger(Store(location), INFO)
    return Step(time.process_time() - started, 0, len(ledger._read))


def look_up(location: str, rows: int, _at_once: int) -> Step:
    """Open the ledger, and look every reply up."""
    ledger = Ledger(Store(location), INFO)
    started = time.process_time()
    found = sum(ledger.get(request(number).key(INFO)) is not None for number in range(rows))
    if found != rows:
        raise RuntimeError(f"{found:,} of {rows:,} replies are there")
    return Step(time.process_time() - started, 0)


def work(step: Callable[[str, int, int], Step], results: Connection, *arguments: object) -> None:
    """Take a step in a process of its own, and report what it took."""
    done = step(*arguments)  # type: ignore[arg-type]
    results.send(Step(done.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, done.files))


def measured(step: Callable[[str, int, int], Step], location: str, rows: int, at_once: int) -> Step:
    """What a step takes in a process of its own."""
    spawn = multiprocessing.get_context("spawn")  # a fork would start with the memory of this process
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(step, theirs, location, rows, at_once))
    process.start()
    theirs.close()  # otherwise a dead process would be awaited for ever
    done: Step = ours.recv()
    process.join()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="replies")
    parser.add_argument("--at-once", type=int, default=32, help="replies that arrive together")
    parser.add_argument("--store", nargs="+", choices=STORES, default=list(STORES))
    add_json(parser)
    arguments = parser.parse_args()
    sizes, figures = (arguments.rows // 4, arguments.rows), list[Figure]()
    print(f"{'':7} {'replies':>10} {'step':>8} {'s':>8} {'MiB more':>9} {'files':>6}")
    for title in arguments.store:
        store, taken = STORES[title], dict[tuple[Any, int], Step]()
        with tempfile.TemporaryDirectory() as folder:
            empty = measured(reopen, store.format(folder=folder), 0, 1).memory
        for rows in sizes:
            with tempfile.TemporaryDirectory() as folder:
                for step in (keep, reopen, look_up):
                    done = measured(step, store.format(folder=folder), rows, arguments.at_once)
                    taken[step, rows] = done
                    more = done.memory - empty
                    print(
                        f"{title:7} {rows:>10,} {step.__name__:>8} {done.seconds:>8.1f} {more:>9.0f} {done.files:>6}",
                        flush=True,
                    )
        for step in (keep, reopen, look_up):
            ratio = taken[step, sizes[1]].seconds / sizes[1] / (taken[step, sizes[0]].seconds / sizes[0])
            words = step.__name__.replace("_", " ")
            against = f"{sizes[0]:,} replies"
            figures.append(Figure(f"{title}: {words} {sizes[1]:,}, seconds for each", against, ratio, at_most=1.5))
        figures.append(Figure(f"{title}: reopened", "", taken[reopen, sizes[1]].seconds, "s of processor time"))
        figures.append(Figure(f"{title}: files listed at most", "", taken[keep, sizes[1]].files, "files"))
        bytes_each = (taken[reopen, sizes[1]].memory - empty) * 2**20 / sizes[1]
        figures.append(Figure(f"{title}: memory of each reply, reopened", "", bytes_each, "bytes"))
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
