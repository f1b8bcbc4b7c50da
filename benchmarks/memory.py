"""Measures the memory of a worker that embeds shards: it must not grow with the pool.

    python benchmarks/memory.py [--shards N] [--times K]

A process of its own embeds one shard after the other, as a worker of Dask or Ray does, once for a pool of N shards and
once for one of K times as many. What is compared is the most memory that it ever held. Vectors are drawn: a model's
own memory is not the pool's.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import zlib
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from selectllm.execution import WorkItem
from selectllm.settings import RunSettings
from selectllm.steps.embed_rows import SHARD_ROWS, Shard, embed_elsewhere


class RandomEmbedder:
    """Makes unit vectors of the usual length without a model."""

    digest = "random"

    def load(self) -> None:
        """Nothing has to be loaded."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Draw a vector for each text, the same on every run."""
        vectors: np.ndarray = np.random.default_rng(zlib.crc32(texts[0].encode())).normal(size=(len(texts), 384))
        unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit


def work(settings: RunSettings, pieces: Connection) -> None:
    """Embed all shards that arrive, then report the peak memory in bytes."""
    with patch("selectllm.embedding.models.open_embedder", lambda _name: RandomEmbedder()):
        while (shard := pieces.recv()) is not None:
            pieces.send(embed_elsewhere(settings, WorkItem(shard)))
    pieces.send(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def most_memory(shards: int) -> int:
    """The peak memory, in bytes, of a worker that embeds a pool of `shards` shards."""
    spawn = multiprocessing.get_context("spawn")  # a fork would start with the memory of this process
    ours, theirs = spawn.Pipe()
    with tempfile.TemporaryDirectory() as store:
        settings = RunSettings.model_validate({"pool": "-", "budget": 1, "store": store})
        process = spawn.Process(target=work, args=(settings, theirs), daemon=True)
        process.start()
        theirs.close()  # otherwise a dead worker would be awaited for ever
        for number in range(shards):
            rows = range(number * SHARD_ROWS, (number + 1) * SHARD_ROWS)
            texts = (f"Task {row}: " + "explain it, " * 30 for row in rows)
            ours.send(Shard(tuple(f"{row:032x}" for row in rows), tuple(texts)))
            ours.recv()
        ours.send(None)
        most = int(ours.recv())
        process.join()
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10, help=f"of the smaller pool, of {SHARD_ROWS:,} rows each")
    parser.add_argument("--times", type=int, default=20, help="how many times larger the larger pool is")
    add_json(parser)
    arguments = parser.parse_args()
    small, large = (most_memory(shards) for shards in (arguments.shards, arguments.shards * arguments.times))
    print(f"{'rows':>10} {'MiB at most':>12} {'ratio':>6}")
    for shards, most in ((arguments.shards, small), (arguments.shards * arguments.times, large)):
        print(f"{shards * SHARD_ROWS:>10,} {most / 2**20:>12.1f} {most / small:>6.2f}")
    what = f"memory of a worker that embeds {arguments.times} times as many rows"
    print_figures([Figure(what, "a worker with the fewer rows", large / small)], as_json=arguments.json)


if __name__ == "__main__":
    main()
