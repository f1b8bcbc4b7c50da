"""Measures `--near-duplicate`: processor time and memory at a large pool, where few rows repeat and where most do.

    OMP_NUM_THREADS=1 python benchmarks/near_duplicates.py [--rows M] [--budget N]

Rows are compared with the chosen rows alone, exactly. So the most that it can take is a pool of fewer themes than the
budget: then all M rows are compared with all that are chosen. The ratio is to the bare matrix products of that.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Figure, add_json, print_figures
from selectllm.ranking.near_duplicates import BLOCK, choose_distinct

LIMIT = 0.95
NOISE = 0.1
"""Of each of a row's 384 numbers, beside those of its theme: rows of one theme then have a cosine of about 0.99."""


def by_themes(rows: int, themes: int, dimension: int = 384) -> np.ndarray:
    """Vectors (M, d) of unit length, each near to that of its theme."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(themes, dimension)).astype(np.float32)
    vectors = centres[rng.integers(themes, size=rows)]
    for first in range(0, rows, 65_536):
        part = vectors[first : first + 65_536]
        part += NOISE * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def products(vectors: np.ndarray, chosen: int) -> float:
    """Seconds of the products of all rows with as many rows as are chosen."""
    others, started = vectors[:chosen].T.copy(), time.process_time()
    for first in range(0, len(vectors), BLOCK):
        vectors[first : first + BLOCK] @ others
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--budget", type=int, default=10_000)
    add_json(parser)
    arguments = parser.parse_args()
    rows, budget, figures = arguments.rows, arguments.budget, list[Figure]()
    for title, themes in (("few rows repeat", rows), ("most rows repeat", budget // 2)):
        vectors = by_themes(rows, themes)
        started = time.process_time()
        picks = choose_distinct(vectors, budget, LIMIT)
        took = time.process_time() - started
        chosen, passed_over = len(picks.chosen), len(picks.passed_over)
        bare = products(vectors[: chosen + passed_over], chosen)
        print(
            f"{title}: {chosen:,} chosen of {rows:,}, {passed_over:,} passed over, {took:.1f} s, bare {bare:.1f} s",
            flush=True,
        )
        figures.append(Figure(f"{rows:,} rows, {title}", "the bare matrix products", took / bare))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB at most, vectors included")
    print_figures(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
