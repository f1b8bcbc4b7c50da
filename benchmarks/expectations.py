"""Measures what checking and validating the tables adds: to reading a pool, to embeddings and to rankings.

    python benchmarks/expectations.py [--rows 50000]

Everything is measured in one run, so the ratios carry over to other machines and the seconds do not. The import of
Great Expectations is measured apart: a process pays for it once. The measured functions take turns; of each the best of
five counts.
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

from benchmarks.results import Figure, add_json, print_figures
from selectllm import pool, quality
from selectllm.quality.gx import great_expectations
from selectllm.schemas import QUERIES, RANKINGS, embeddings

WORDS = ("write", "a", "short", "note", "about", "the", "small", "river", "through", "old", "towns", "山", "水", "été")


def write_pool(path: Path, rows: int) -> None:
    """Write texts of 5 to 100 words. A third have an input; of 1,000 rows, 10 are duplicates and 3 are empty."""
    random_state = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            texts = {"instruction": f"{row}: " + " ".join(random_state.choices(WORDS, k=random_state.randint(5, 100)))}
            texts |= {"input": " ".join(random_state.choices(WORDS, k=60))} if row % 3 == 0 else {}
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


def seconds(*functions: Callable[[], object]) -> list[float]:
    """The minimum processor time of each function. They run in turns, so that other load slows all of them equally."""
    best = [float("inf")] * len(functions)
    for _ in range(5):
        for place, function in enumerate(functions):
            gc.collect()
            started = time.process_time()
            function()
            best[place] = min(best[place], time.process_time() - started)
    return best


def read(path: Path, validate: bool = False, suite: quality.Suite | None = None) -> pool.Pool:
    """Read a pool, by default with only the structural checks."""
    parsed = pool.parse(pool.fetch(str(path)), pool.Columns())
    return pool.partition(parsed, quality.check_pool(parsed, suite).reasons if validate else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    add_json(parser)
    arguments = parser.parse_args()
    rows = arguments.rows

    started = time.perf_counter()
    great_expectations()
    print(f"import of Great Expectations, once a process: {time.perf_counter() - started:.1f} s\n")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.jsonl"
        write_pool(path, rows)
        suite_path = Path(folder) / "suite.json"
        suite_path.write_text(
            json.dumps(
                [
                    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "topic", "max_value": 8}},
                    {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "input", "regex": "^x"}},
                ]
            )
        )
        suite = quality.load_suite(suite_path)
        check = quality.check_pool(pool.parse(pool.fetch(str(path)), pool.Columns()))
        plain, checked, with_suite, validated = seconds(
            lambda: read(path),
            lambda: read(path, validate=True),
            lambda: read(path, validate=True, suite=suite),
            lambda: quality.validate_pool(check),
        )
        result = read(path, validate=True)

    vectors, queries, ranks = tables(result.table["id"].to_pylist())
    embedded, ranks_checked, ranked = seconds(
        lambda: quality.validate_embeddings(vectors, result.table),
        lambda: quality.check_rankings(ranks, queries),
        lambda: quality.validate_rankings(ranks, queries, max_abstained=0.05),
    )

    print(f"{rows:,} rows, of which {result.quarantined:,} quarantined and {result.duplicates:,} repeats")
    print(f"{'':<44} {'seconds':>8} {'ratio':>8}")
    for name, measured in (
        ("pool: read", plain),
        ("pool: read and checked", checked),
        ("pool: and by two expectations of a user", with_suite),
        ("pool: validated, beside the embedding", validated),
        ("embeddings: validated", embedded),
        ("rankings: checked", ranks_checked),
        ("rankings: validated", ranked),
        ("added by all checks and validations", checked - plain + validated + embedded + ranked),
    ):
        print(f"{name:<44} {measured:>8.2f} {measured / plain:>8.2f}")
    added = checked - plain + validated + embedded + ranked
    figure = Figure(f"time of all checks and validations of {rows:,} rows", "reading the pool", added / plain)
    print_figures([figure], as_json=arguments.json)


if __name__ == "__main__":
    main()
