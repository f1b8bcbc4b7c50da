"""Measures whole runs at scale: seconds, processor seconds and peak memory of each step.

    python benchmarks/scale.py [--rows M] [--budget N] [--size K] [--gather tiers] [--concurrency C] [--store DIR]
    python benchmarks/scale.py --kill-after SECONDS [...]

A first process writes a pool of M rows, of words of the example, and a store that holds their vectors: 384 numbers
each, drawn around 60 topics. Embedding is not measured. A second process then chooses N rows, with a scripted selector,
so that what is measured is our own work and not a model's. The peak is that of the whole process while the step runs,
its libraries and what earlier steps have left included (Linux alone says it). Beside it stands what of it is the
process's own, looked at ten times a second: the rest are files, such as the texts of a large pool, which the system
forgets where memory is short.

With --kill-after, the measured process is killed so many seconds after its first reply, and a new one goes on. A
run in another store, which nothing disturbs, must choose the very same rows. No reply that was kept may be asked again.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from selectllm import pipeline
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.steps.embed import embed
from selectllm.steps.read_pool import read_pool
from selectllm.store import Store

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "examples" / "pool.jsonl"
DIMENSION: Final = 384
TOPICS: Final = 60
SPREAD: Final = 0.08  # of a row around its topic, in each dimension: cosines within a topic are about 0.3


class TopicEmbedder:
    """Makes unit vectors around topics without a model: embedding is not measured."""

    digest = "topics"

    def load(self) -> None:
        """Nothing has to be loaded."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Draw a vector for each text, the same on every run."""
        topics = np.random.default_rng(0).normal(size=(TOPICS, DIMENSION)).astype(np.float32)
        topics /= np.linalg.norm(topics, axis=1, keepdims=True)
        rng = np.random.default_rng(zlib.crc32("".join(texts).encode()))
        vectors = rng.standard_normal((len(texts), DIMENSION), dtype=np.float32)
        vectors = topics[rng.integers(TOPICS, size=len(texts))] + SPREAD * vectors
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


@dataclass
class Step:
    """What a step took, and the most memory that the process held meanwhile, in bytes: with files, and without."""

    name: str
    seconds: float
    processor: float
    peak: int
    own: int


@dataclass(frozen=True)
class MeasuredContext(Context):
    """A context that takes note of what each step takes."""

    steps: list[Step] = field(default_factory=list)

    def run(self, step: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        """Run a step, and note what it took."""
        with measured(self.steps, step.__name__):
            return super().run(step, *inputs, **named)

    def finish(self, started: Any) -> Any:
        """Wait for a step that was started, and note what waiting took."""
        with measured(self.steps, "wait for the pool's validation"):
            return super().finish(started)


@contextmanager
def measured(steps: list[Step], name: str) -> Iterator[None]:
    """Note what a block takes."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    started, processor = time.perf_counter(), time.process_time()
    held, done = [memory("RssAnon")], threading.Event()
    watching = threading.Thread(target=watch, args=(held, done), daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
        took = time.perf_counter() - started, time.process_time() - processor
        steps.append(Step(name, *took, memory("VmHWM"), max(held)))


def watch(held: list[int], done: threading.Event) -> None:
    """Note how much memory of its own this process holds, until it is done."""
    while not done.wait(0.1):
        held[:] = [max(*held, memory("RssAnon"))]


def memory(name: str) -> int:
    """What the system says of this process's memory under a name, in bytes: VmHWM is the most since it was set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def write_pool(path: Path, rows: int) -> None:
    """Write texts of 8 to 40 words; a third have an input."""
    words = EXAMPLE.read_text(encoding="utf-8").replace('"', " ").replace("\\", " ").split()
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            texts = {"instruction": f"{row}: " + " ".join(rng.choices(words, k=rng.randint(8, 40)))}
            texts |= {"input": " ".join(rng.choices(words, k=20))} if row % 3 == 0 else {}
            file.write(json.dumps(texts | {"topic": row % 9}, ensure_ascii=False) + "\n")


def prepare(settings: RunSettings, rows: int, pipe: Connection) -> None:
    """Write the pool and the store with its vectors; the pool's own artifacts are removed, for the run to make."""
    store = Store(settings.store)
    write_pool(Path(settings.pool), rows)
    context = Context(settings, store)
    pool = context.run(read_pool)
    with patch("selectllm.embedding.models.open_embedder", lambda _name: TopicEmbedder()):
        context.run(embed, pool)
    for kind in ("pool", "quarantine"):
        for manifest in store.manifests(kind):
            store.remove(manifest.artifact)
    # The embeddings are whole: their shards only fill the disk. A store that was prepared before has none.
    shutil.rmtree(Path(settings.store) / "v1" / "vectors", ignore_errors=True)
    pipe.send(None)


def measure(settings: RunSettings, pipe: Connection) -> None:
    """Run all steps, and report what each took."""
    context = MeasuredContext(settings, Store(settings.store))
    whole: list[Step] = []
    embedder = patch("selectllm.embedding.models.open_embedder", lambda _name: TopicEmbedder())
    with embedder, measured(whole, "the whole run"):
        pipeline.run(context)
    steps = [*context.steps, *whole]
    most = max(step.peak for step in steps), max(step.own for step in steps)
    pipe.send([*context.steps, Step(whole[0].name, whole[0].seconds, whole[0].processor, *most)])


def kill(settings: RunSettings, seconds: float) -> int:
    """Start a run, and kill its process so many seconds after its first reply; returns how many replies are kept.

    Raises RuntimeError when the run has ended by then.
    """
    spawn = multiprocessing.get_context("spawn")
    _, theirs = spawn.Pipe()
    process = spawn.Process(target=measure, args=(settings, theirs), daemon=True)
    process.start()
    while process.is_alive() and not replies_in(settings.store):
        time.sleep(0.1)
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode == 0:
        raise RuntimeError("the run had ended before it was killed: give fewer seconds to --kill-after")
    return replies_in(settings.store)


def replies_in(store: str) -> int:
    """How many replies a store keeps: the whole lines of its ledgers."""
    return sum(file.read_bytes().count(b"\n") for file in Path(store).glob("v1/replies/*/*.jsonl"))


def chosen(settings: RunSettings) -> bytes:
    """The bytes of the selection that the only run in a store has made."""
    (file,) = Path(settings.store).glob("v1/artifacts/selection/*.parquet")
    return file.read_bytes()


def compare_killed(settings: RunSettings, seconds: float) -> None:
    """Kill a run, have a new process go on, and hold it against a run in a copy of the store that nothing disturbs.

    Raises RuntimeError when a reply was asked for twice, or other rows were chosen.
    """
    undisturbed = settings.model_copy(update={"store": f"{settings.store}-undisturbed"})
    shutil.copytree(settings.store, undisturbed.store, copy_function=os.link)  # nothing in it will be written to
    kept = kill(settings, seconds)
    in_process(measure, settings)
    in_process(measure, undisturbed)
    resumed, whole = replies_in(settings.store), replies_in(undisturbed.store)
    print(f"killed after {kept:,} replies; {resumed:,} in the end, and {whole:,} of a run that nothing disturbed")
    if resumed != whole or chosen(settings) != chosen(undisturbed):
        raise RuntimeError("a killed run that goes on has asked again, or has chosen other rows")
    print("no kept reply was asked for again, and the selections are the same, byte for byte")


def in_process(job: Callable[..., None], *arguments: Any) -> Any:
    """What a job reports that runs in a process of its own."""
    spawn = multiprocessing.get_context("spawn")  # a fork would start with the memory of this process
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=job, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()  # otherwise a dead process would be awaited for ever
    told = ours.recv()
    process.join()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--budget", type=int, help="default: one row of a hundred")
    parser.add_argument("--size", type=int, default=20, help="rows of a query")
    parser.add_argument("--gather", choices=("tiers", "ratings"), default="tiers")
    parser.add_argument("--concurrency", type=int, default=4, help="questions under way at once")
    parser.add_argument("--kill-after", type=float, metavar="SECONDS", help="kill a run, go on with it, and compare")
    parser.add_argument("--store", help="a folder to keep the pool and its vectors in; default: one that is removed")
    add_json(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(arguments.store or folder)
        place.mkdir(parents=True, exist_ok=True)
        settings = RunSettings.model_validate(
            {
                "pool": str(place / "pool.jsonl"),
                "budget": arguments.budget or arguments.rows // 100,
                "selector": "scripted:first",
                "store": str(place / "store"),
                "queries": {"size": arguments.size},
                "ranking": {"gather": arguments.gather, "concurrency": arguments.concurrency},
            }
        )
        in_process(prepare, settings, arguments.rows)
        if arguments.kill_after is not None:
            compare_killed(settings, arguments.kill_after)
            return
        steps = in_process(measure, settings)
    print(f"{settings.budget:,} of {arguments.rows:,} rows, queries of {arguments.size}, {arguments.gather}")
    print(f"{'step':<32} {'seconds':>9} {'processor':>10} {'MiB at most':>12} {'its own':>8}")
    for step in steps:
        whole, own = (held / 2**20 for held in (step.peak, step.own))
        print(f"{step.name:<32} {step.seconds:>9.1f} {step.processor:>10.1f} {whole:>12,.0f} {own:>8,.0f}")
    run, rows = steps[-1], f"a run on {arguments.rows:,} rows with their vectors"
    figures = [
        Figure(f"processor time of {rows}", "", run.processor, "s"),
        Figure(f"memory of {rows}, at most", "", run.peak / 2**20, "MiB"),
        Figure(f"memory of its own of {rows}, at most", "", run.own / 2**20, "MiB"),
    ]
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
