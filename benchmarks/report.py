"""Measures the page of a run: its bytes, the seconds that it takes, and the memory of the process that makes it.

    python benchmarks/report.py [--rows M] [--chosen N] [--store DIR]

Writes a store of a run that chose N of M rows, with every table that such a run leaves and the replies of its model,
then makes the page in a process of its own. Texts are drawn from the words of the example, vectors at random: so the
texts compress less than real ones. At a million rows the store takes 2 GB, and writing it 6 GB of memory.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from selectllm import schemas
from selectllm.embedding.vector_cache import table_of
from selectllm.report.page.build import build_page
from selectllm.store import Artifact, Origin, Store, digest, versions
from selectllm.store.runs import RunRecord, StepRecord, save_run

POOL: Final = Path(__file__).resolve().parents[1] / "examples" / "pool.jsonl"
SIZE: Final = 14
DIMENSION: Final = 384
MODEL: Final = "benchmark"


def write_run(store: Store, rows: int, chosen: int) -> None:
    """Write the tables, the replies and the record of a run."""
    rng = np.random.default_rng(0)
    digits = rng.bytes(16 * rows).hex()
    ids = pa.array([digits[start : start + 32] for start in range(0, len(digits), 32)], pa.string())
    words = json.dumps([json.loads(line) for line in POOL.open(encoding="utf-8")]).split()
    drawn = rng.choice(np.array(words, dtype=object), (rows, 40))
    counts = rng.integers(8, 41, rows)
    texts = [" ".join(line[:count]) for line, count in zip(drawn, counts, strict=True)]
    order = rng.permutation(rows)
    query = np.empty(rows, np.int64)
    query[order] = np.arange(rows) // SIZE
    position = np.empty(rows, np.int32)
    position[order] = np.arange(rows) % SIZE
    keys = [digest(number) for number in range(rows // SIZE + 1)]
    replies = pa.array([keys[number] for number in query], pa.string())
    ratings = rng.normal(size=rows)
    best = np.argsort(-ratings)
    nulls = pa.nulls(rows, pa.string())
    number = pa.array(np.arange(1, rows + 1))
    first = pa.array(best[:chosen])
    source = pa.array(rng.choice(["web", "forum", "staff"], rows))
    pool = pa.table([ids, number, pa.array(texts), nulls, nulls, source], schema=schemas.POOL.append(_SOURCE))
    tables = {
        "pool": pool,
        "quarantine": schemas.QUARANTINE.empty_table(),
        "embeddings": table_of(ids, rng.normal(size=(rows, DIMENSION)).astype(np.float32)),
        "queries": pa.table([pa.array(query), pa.array(position), ids], schema=schemas.QUERIES),
        "ratings": pa.table(
            [ids, ratings, np.full(rows, 0.5), np.ones(rows, np.int64), np.zeros(rows, np.int32), replies],
            schema=schemas.RATINGS,
        ),
        "preferences": _preferences(ids, best, ratings, replies),
        "selection": _selection(pool.take(first), ratings[best[:chosen]], query[best[:chosen]]),
    }
    artifacts = {kind: _write(store, kind, table, {}) for kind, table in tables.items()}
    rankings = pa.table([[0], [1], ids[:1], [None], replies[:1]], schema=schemas.RANKINGS)
    artifacts["rankings"] = _write(store, "rankings", rankings, {"model": MODEL})
    _write_replies(store, keys, ids.take(pa.array(order)).to_pylist())
    picks = {f"{SIZE}:{place}": len(keys) // SIZE + place for place in range(SIZE)}
    facts: dict[str, Any] = {"rankings": {"first_picks": picks, "ranked": len(keys)}}
    steps = tuple(StepRecord(kind=kind, key=key, facts=facts.get(kind, {})) for kind, key in artifacts.items())
    save_run(store, RunRecord(run="benchmark", steps=steps, summary=_summary(rows, chosen, artifacts)))


_SOURCE: Final = pa.field("source", pa.string())


def _write(store: Store, kind: str, table: pa.Table, settings: dict[str, Any]) -> str:
    origin = Origin(code_version=1, made_from={}, inputs={}, settings=settings)
    artifact = Artifact(kind=kind, key=origin.content_key(kind))
    store.write(artifact, table, origin, {})
    return artifact.key


def _preferences(ids: pa.Array, best: np.ndarray, ratings: np.ndarray, replies: pa.Array) -> pa.Table:
    rows, places = len(best), pa.array(best)
    nulls = [pa.nulls(rows, schemas.PREFERENCES.field(name).type) for name in ("query_id", "rank", "round")]
    columns = [np.arange(1, rows + 1), ids.take(places), ["rating"] * rows, ratings[best], *nulls, replies.take(places)]
    return pa.table(columns, schema=schemas.PREFERENCES)


def _selection(pool: pa.Table, ratings: np.ndarray, query: np.ndarray) -> pa.Table:
    rows = len(pool)
    texts = [pool[name] for name in ("id", "instruction", "input", "output")]
    why = [["selectllm"] * rows, ratings, query, np.zeros(rows, np.int32), np.ones(rows, np.int32), ["rating"] * rows]
    return pa.table([np.arange(1, rows + 1), *texts, *why, pool["source"]], schema=schemas.SELECTION.append(_SOURCE))


def _write_replies(store: Store, keys: list[str], ids: list[str]) -> None:
    lines = []
    for number, key in enumerate(keys):
        shown = ids[number * SIZE : (number + 1) * SIZE]
        reply = {"text": '{"ranking": [3, 1, 2]}', "done_reason": "stop", "prompt_tokens": 900, "output_tokens": 12}
        entry = {"key": key, "at": 1, "prompt": key, "model": MODEL, "shown": shown, "attempt": 1, "seed": 0}
        lines.append(json.dumps({**entry, "outcome": "used", "reply": reply, "question": f"query {number}"}) + "\n")
    text = "".join(line.replace(": ", ":", 1) for line in lines)
    store.write_bytes(f"replies/{digest(MODEL)}/one.jsonl", text.encode())


def _summary(rows: int, chosen: int, artifacts: dict[str, str]) -> dict[str, Any]:
    return {
        "strategy": "selectllm",
        "pool": {"rows_read": rows, "quarantined": 0, "duplicates": 0, "kept": rows},
        "queries": {"count": rows // SIZE, "size": SIZE, "composition": "matched"},
        "ranking": None,
        "validation": {},
        "cost": None,
        "selection": {"budget": chosen, "selected": chosen, "excluded": 0},
        "model": None,
        "artifacts": artifacts,
        "seconds": {},
        "cached": [],
        "seed": 0,
        "versions": versions(),
    }


def measure(location: str, pipe: Connection) -> None:
    """Make the page, and report its bytes, the seconds it took, and the process's peak memory in bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    page = build_page(Store(location), umap=False)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send((len(page.encode()), seconds, processor, 1024 * before.ru_maxrss, 1024 * after.ru_maxrss))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chosen", type=int, default=20_000)
    parser.add_argument("--store", help="a folder to keep the store in; default: one that is removed")
    add_json(parser)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        location = arguments.store or folder
        for job, parameters in ((_write_store, (location, arguments.rows, arguments.chosen)), (measure, (location,))):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=job, args=(*parameters, theirs), daemon=True)
            process.start()
            theirs.close()
            told = ours.recv()
            process.join()
    size, seconds, processor, before, after = told
    print(f"{arguments.chosen:,} chosen of {arguments.rows:,}: {size / 1e6:.2f} MB, {seconds:.1f} s ({processor:.1f} s")
    print(f"of processor time), {after / 2**20:,.0f} MiB at most, {before / 2**20:,.0f} of them before")
    what = f"memory of a report of {arguments.chosen:,} of {arguments.rows:,} rows"
    figures = [Figure(what, "its process before it begins", after / before), Figure("the report", "", size / 1e6, "MB")]
    print_figures(figures, as_json=arguments.json)


def _write_store(location: str, rows: int, chosen: int, pipe: Connection) -> None:
    write_run(Store(location), rows, chosen)
    pipe.send(None)


if __name__ == "__main__":
    main()
