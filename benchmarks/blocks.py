"""Measures queries of large pools: how diverse they are by blocks and as a whole, and what dividing takes.

    python benchmarks/blocks.py [--rows M] [--size K ...] [--way WAY ...] [--folder DIR]

Vectors of 384 numbers are drawn around the topics of benchmarks/scale.py, and kept as an artifact. Each way then
divides them in a process of its own. Seconds are the processor's. The peak is that of the whole process (Linux).
Distances are of up to 5,000 queries. The product takes `whole` up to 250,000 rows, and `chance` above.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final
from unittest.mock import patch

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from benchmarks.scale import DIMENSION, SPREAD, TOPICS, in_process, memory
from selectllm import blocks
from selectllm.embedding.vector_cache import table_of
from selectllm.queries import Rows, Vectors, fit_centroids, fit_rows
from selectllm.schemas import embeddings
from selectllm.settings import QuerySettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.divide import StoredVectors, divide
from selectllm.store import Store

PART: Final = 50_000
SAMPLE: Final = 5000
WAYS: Final = {
    "whole": "all rows at once",
    "chance": "blocks that rows are dealt to by chance",
    "strata": "blocks that each have an equal share of every cluster",
    "coarse": "blocks of neighbours, from a coarse partition",
}


def entry(store: Store, rows: int) -> CacheEntry:
    return CacheEntry(store, "embeddings", 1, {}, {"model": "topics", "rows": rows})


def parts(rows: int) -> Iterator[pa.Table]:
    topics = np.random.default_rng(0).normal(size=(TOPICS, DIMENSION)).astype(np.float32)
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)
    for start in range(0, rows, PART):
        rng, count = np.random.default_rng(start), min(PART, rows - start)
        vectors = rng.standard_normal((count, DIMENSION), dtype=np.float32) * SPREAD
        vectors += topics[rng.integers(TOPICS, size=count)]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield table_of(pa.array([f"{row:032x}" for row in range(start, start + count)]), vectors)


def prepare(place: str, rows: int, pipe: Connection) -> None:
    """Keep the vectors as an artifact, unless they are there."""
    place_of = entry(Store(place), rows)
    if not place_of.load():
        place_of.save_stream(embeddings(DIMENSION), parts(rows), {"dimension": DIMENSION})
    pipe.send(None)


def stored(place: str, rows: int) -> StepResult:
    result = entry(Store(place), rows).load()
    assert result is not None
    return result


def strata(vectors: StoredVectors, sizes: list[int], centroids: Vectors) -> blocks.Blocks:
    """Deal the rows of each cluster of near rows over the blocks in turn."""
    nearest = np.concatenate([np.argmax(part @ centroids.T, axis=1) for part in vectors])
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(len(nearest)), nearest))
    in_turn = np.argsort(np.concatenate([(np.arange(size) + 0.5) / size for size in sizes]), kind="stable")
    block_of = np.empty(len(nearest), dtype=np.int32)
    block_of[order] = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[in_turn]
    return block_of


def measure(place: str, rows: int, size: int, way: str, pipe: Connection) -> None:
    """Divide in one way; report processor seconds, peak memory and the mean distance within queries."""
    with patch.object(blocks, "WHOLE_ROWS", sys.maxsize if way == "whole" else 0):
        vectors, started = StoredVectors(Store(place), stored(place, rows)), time.process_time()
        centroids = fit_centroids(vectors.take(fit_rows(rows, 0)), size, 0)
        sizes = blocks.block_sizes(rows, size)
        dealt = None
        if way == "strata":
            dealt = strata(vectors, sizes, centroids)
        elif way == "coarse":
            dealt = blocks.deal_alike(vectors, sizes, 0)
        with patch.object(blocks, "deal", (lambda *_: dealt) if dealt is not None else blocks.deal):
            queries = divide(vectors, QuerySettings(size=size), 0, centroids)
        took, most = time.process_time() - started, memory("VmHWM")
        pipe.send((took, most, *distance(vectors, queries)))


def distance(vectors: StoredVectors, queries: Rows) -> tuple[float, float]:
    """The mean cosine distance within full queries, and the 5th percentile of queries' means."""
    full = queries[(queries >= 0).all(axis=1)]
    some = full[np.sort(np.random.default_rng(1).choice(len(full), min(SAMPLE, len(full)), replace=False))]
    rows, places = np.unique(some, return_inverse=True)
    members = vectors.take(rows)[places.reshape(some.shape)]
    size = some.shape[1]
    sums = members.sum(axis=1)
    means = 1 - (np.einsum("ij,ij->i", sums, sums) - size) / (size * (size - 1))
    return float(means.mean()), float(np.percentile(means, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--size", type=int, nargs="+", default=[20, 100], help="rows of a query")
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", help="a folder to keep the vectors in; default: one that is removed")
    add_json(parser)
    arguments = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        place, rows = arguments.folder or folder, arguments.rows
        in_process(prepare, place, rows)
        print(f"{rows:,} rows")
        print(f"{'size':>5} {'way':<8} {'processor':>10} {'MiB at most':>12} {'distance':>9} {'5th pct':>9}")
        for size in arguments.size:
            found = {}
            for way in arguments.way:
                took, most, mean, low = found[way] = in_process(measure, place, rows, size, way)
                print(f"{size:>5} {way:<8} {took:>10.1f} {most / 2**20:>12,.0f} {mean:>9.4f} {low:>9.4f}", flush=True)
            if "whole" in found:
                figures += [
                    Figure(f"distance within queries of {size}, {WAYS[way]}", WAYS["whole"], mean / found["whole"][2])
                    for way, (_, _, mean, _) in found.items()
                    if way != "whole"
                ]
            if {"whole", "chance"} <= found.keys():
                what = f"memory to form queries of {size}, {WAYS['chance']}"
                figures.append(Figure(what, WAYS["whole"], found["chance"][1] / found["whole"][1]))
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
