"""Measures what a run adds to the server's own time: the library and the flow against a bare loop over the client.

    python benchmarks/ranking.py [--queries N] [--delay S] [--concurrency C ...] [--no-flow]

All ask the same questions of a server in another process that takes `delay` seconds for each answer. The seconds are
the server's: from the first question that reached it to the last. The bare loop sends what the library sent, through
the official client, and keeps nothing; `pools` is the same loop over the library's connections to the server; `ideal`
is a server that is never left waiting. The library keeps its ledger, looks for cut prompts and reports its progress,
as it always does.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}  # before it is imported

from benchmarks.results import Figure, add_json, print_figures
from selectllm.testing.faulty_ollama import FaultyOllama

SIZE = 14

MOST = 1.05
"""How many times as long as the bare loop the library and the flow may take."""


@dataclass
class Seen:
    """What the server recorded about a contender."""

    seconds: float = 0.0
    most_at_once: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)


class RandomEmbedder:
    """Makes unit vectors without a model: embedding is not measured."""

    digest = "random"

    def load(self) -> None:
        """Nothing has to be loaded."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Draw a vector for each text, the same on every run."""
        seed = zlib.crc32("".join(texts).encode())
        vectors = np.random.default_rng(seed).normal(size=(len(texts), 32)).astype(np.float32)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


class Heard:
    """Takes note of progress, as bars do."""

    def __init__(self) -> None:
        self.moves = 0

    def __call__(self, step: str, done: int, total: int) -> None:
        """Count a move."""
        self.moves += 1

    def spent(self, prompt_tokens: int, output_tokens: int) -> None:
        """Count a move."""
        self.moves += 1


def serve(ours: Connection, delay: float, parallel: int) -> None:
    with FaultyOllama(delay=delay, parallel=parallel) as server:
        ours.send(server.host)
        ours.recv()
        server.wait_idle(60)
        ours.send(Seen(server.last_at - server.first_at, server.most_at_once, server.asked))


@contextmanager
def server(arguments: argparse.Namespace, concurrency: int) -> Iterator[tuple[str, Seen]]:
    """Run a server in its own process. Its records are available at the end."""
    spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, arguments.delay, concurrency), daemon=True)
    process.start()
    theirs.close()  # otherwise a dead server would be awaited for ever
    host, seen = ours.recv(), Seen()
    with patch.dict(os.environ, {"OLLAMA_HOST": host}):
        yield host, seen
    ours.send("done")
    seen.__dict__.update(ours.recv().__dict__)
    process.join()


def write_pool(path: Path, rows: int) -> str:
    texts = (f"Task {row}: compare {row % 13 + 2} ways to plan a week of meals, and say why." for row in range(rows))
    path.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


async def bare(host: str, bodies: Sequence[dict[str, Any]], concurrency: int, *, has_pools: bool = False) -> None:
    import httpx
    from ollama import AsyncClient

    from selectllm.llm.connection_pools import ConnectionPools

    limits = httpx.Limits(max_connections=None)  # as the library has it: by default it would be 100, 20 of them kept
    transport = ConnectionPools() if has_pools else None
    client = AsyncClient(host=host, timeout=120, limits=limits, transport=transport)
    places = asyncio.Semaphore(concurrency)

    async def ask(body: dict[str, Any]) -> None:
        fields: dict[str, Any] = {name: body.get(name) for name in ("model", "messages", "format", "options", "think")}
        async with places:
            await client.chat(**fields)

    await asyncio.gather(*map(ask, bodies))
    await client._client.aclose()


def measure(arguments: argparse.Namespace, concurrency: int, folder: Path) -> dict[str, Seen]:
    from selectllm import select
    from selectllm.settings import RunSettings

    pool = write_pool(folder / "pool.jsonl", SIZE * arguments.queries)

    def run(name: str) -> RunSettings:
        return RunSettings.model_validate(
            {
                "pool": pool,
                "budget": arguments.queries,  # the first row of each query: no tier is cut, no other request
                "selector": "ollama:m",
                "store": str(folder / name),  # a separate store for each: stored replies are not requested again
                "queries": {"size": SIZE},
                "ranking": {"concurrency": concurrency, "gather": "tiers"},
            }
        )

    with patch("selectllm.embedding.models.open_embedder", lambda _name: RandomEmbedder()):
        with server(arguments, concurrency) as (_, library):
            select(run("library"), Heard())
        with server(arguments, concurrency) as (host, loop):
            asyncio.run(bare(host, library.asked, concurrency))
        with server(arguments, concurrency) as (host, pools):
            asyncio.run(bare(host, library.asked, concurrency, has_pools=True))
        measured = {"bare": loop, "pools": pools, "library": library}
        if arguments.no_flow:
            return measured
        from prefect.testing.utilities import prefect_test_harness

        from flows.selection import select_instructions

        with prefect_test_harness(server_startup_timeout=120), server(arguments, concurrency) as (_, flow):
            select_instructions(run("flow"))
    return measured | {"flow": flow}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000, help=f"questions, each of {SIZE} candidates")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that the server takes for an answer")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 128], help="questions under way at once")
    parser.add_argument("--no-flow", action="store_true", help="leave the Prefect flow out")
    add_json(parser)
    arguments = parser.parse_args()
    figures = []
    for concurrency in arguments.concurrency:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(arguments, concurrency, Path(folder))
        ideal = (arguments.queries - 1) // concurrency * arguments.delay
        bare = measured["bare"].seconds
        print(f"\n{'contender':<10} {'questions':>9} {'at once':>8} {'seconds':>8} {'to bare':>8}")
        print(f"{'ideal':<10} {arguments.queries:>9,} {concurrency:>8} {ideal:>8.2f} {ideal / bare:>8.3f}")
        for name, seen in measured.items():
            times = seen.seconds / bare
            print(f"{name:<10} {len(seen.asked):>9,} {seen.most_at_once:>8} {seen.seconds:>8.2f} {times:>8.3f}")
            if name in ("library", "flow"):
                what, alternative = f"time of the {name}, {concurrency} at once", "a bare loop over the official client"
                figures.append(Figure(what, alternative, times, at_most=MOST))
                alternative += ", with the library's connections"
                figures.append(Figure(what, alternative, seen.seconds / measured["pools"].seconds))
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
