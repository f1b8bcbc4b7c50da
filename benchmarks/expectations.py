"""Measures what judging the tables adds: to reading a pool, to embeddings and to rankings.

    python benchmarks/expectations.py [--rows 50000]

Everything is measured in one run, so the ratios carry over to other machines and the seconds do not. The import of
Great Expectations is measured apart: a process pays for it once. The works take turns; of each the best of five counts.
"""

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from selectllm import pool, quality
from selectllm.quality.checks import check_rankings
from selectllm.quality.engine import great_expectations
from selectllm.schemas import QUERIES, RANKINGS, embeddings

WORDS = ("write", "a", "short", "note", "about", "the", "small", "river", "through", "old", "towns", "山", "水", "été")


def write_pool(path: Path, rows: int) -> None:
    """Texts of 5 to 100 words, a third of them with an input; of a thousand rows 10 repeat one and 3 say nothing."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            texts = {"instruction": f"{row}: " + " ".join(draw.choices(WORDS, k=draw.randint(5, 100)))}
            texts |= {"input": " ".join(draw.choices(WORDS, k=60))} if row % 3 == 0 else {}
            texts = {"instruction": "Say it again."} if row % 100 == 7 else texts
            texts = {"instruction": "?" * (row % 50 + 1)} if row % 333 == 8 else texts
            file.write(json.dumps(texts | {"topic": row % 9}, ensure_ascii=False) + "\n")


def tables(ids: list[str], size: int = 14, depth: int = 3) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Vectors of 384 dimensions, queries, and three ranks of each query."""
    vectors = np.random.default_rng(0).normal(size=(len(ids), 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 384)
    row = np.arange(len(ids))
    ranked = row[row % size < depth]
    queries = pa.table([row // size, (row % size).astype(np.int32), pa.array(ids)], schema=QUERIES)
    none, reply = pa.nulls(len(ranked), pa.float64()), pa.array(["0" * 32] * len(ranked))
    ranks = [ranked // size, (ranked % size + 1).astype(np.int32), queries["id"].take(ranked), none, reply]
    return pa.table([pa.array(ids), flat], schema=embeddings(384)), queries, pa.table(ranks, schema=RANKINGS)


def seconds(*works: Callable[[], object]) -> list[float]:
    """The least processor time of each, in turns, so that whatever else the machine does meets all of them alike."""
    best = [float("inf")] * len(works)
    for _ in range(5):
        for place, work in enumerate(works):
            gc.collect()
            started = time.process_time()
            work()
            best[place] = min(best[place], time.process_time() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    rows = parser.parse_args().rows

    started = time.perf_counter()
    great_expectations()
    print(f"import of Great Expectations, once a process: {time.perf_counter() - started:.1f} s\n")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.jsonl"
        write_pool(path, rows)
        suite = Path(folder) / "suite.json"
        suite.write_text(
            json.dumps(
                [
                    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "topic", "max_value": 8}},
                    {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "input", "regex": "^x"}},
                ]
            )
        )
        own = quality.load_suite(suite)
        plain, judged, both = seconds(
            lambda: pool.read(str(path)),
            lambda: pool.read(str(path), judge=quality.judge_pool),
            lambda: pool.read(str(path), judge=lambda rows: quality.judge_pool(rows, own)),
        )
        found = pool.read(str(path), judge=quality.judge_pool)

    vectors, queries, ranks = tables(found.table["id"].to_pylist())
    embedded, checked, ranked = seconds(
        lambda: quality.judge_embeddings(vectors, found.table),
        lambda: check_rankings(ranks, queries),
        lambda: quality.judge_rankings(ranks, queries, max_abstained=0.05),
    )

    print(f"{rows:,} rows, of which {found.quarantined:,} quarantined and {found.duplicates:,} repeats")
    print(f"{'':<44} {'seconds':>8} {'ratio':>8}")
    print(f"{'pool: read':<44} {plain:>8.2f} {1:>8.2f}")
    print(f"{'pool: read and judged':<44} {judged:>8.2f} {judged / plain:>8.2f}")
    print(f"{'pool: and by two expectations of a user':<44} {both:>8.2f} {both / plain:>8.2f}")
    print(f"{'embeddings: judged':<44} {embedded:>8.2f} {embedded / plain:>8.2f}")
    print(f"{'rankings: the cheap contract':<44} {checked:>8.2f} {checked / plain:>8.2f}")
    print(f"{'rankings: judged':<44} {ranked:>8.2f} {ranked / plain:>8.2f}")
    added = judged - plain + embedded + ranked
    print(f"{'added by all three judgements':<44} {added:>8.2f} {added / plain:>8.2f}")


if __name__ == "__main__":
    main()
