"""Measures the strategies that choose by vectors: speed against plain pairwise code, memory, what is lost by drawing.

    python benchmarks/coverage.py [VECTORS.npz] [--texts POOL.jsonl] [--rows N] [--budget N] [--only STRATEGY ...]

VECTORS.npz holds `embeddings` (M, d) of unit length, for the ratios and the loss; without it, and for --rows, vectors
are drawn around 60 topics. All of it takes one thread, and seconds are of the processor: other work on the machine
changes them little. `by clock` they may be many times as many.
"""

import argparse
import json
import multiprocessing
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final
from unittest.mock import patch

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.queries import by_topics
from selectllm.queries import fit_centroids
from selectllm.ranking.cover import blocks, to_cover
from selectllm.ranking.lazy_greedy import LazyGreedy
from selectllm.ranking.novelty import Novelty, density
from selectllm.ranking.rouge import numbered_words, rouge_l
from selectllm.strategies.facility import LOSS, FacilityLocation
from selectllm.strategies.kcenter import k_center
from selectllm.strategies.probcover import CLASSES, Balls, pure_radius
from selectllm.strategies.stratified import nearest

NONE: Final = np.array([], dtype=np.int64)

Search = Callable[[np.ndarray, int], list[int]]


def kcenter(vectors: np.ndarray, budget: int) -> list[int]:
    return [row for row, _ in k_center(vectors, np.arange(len(vectors)), NONE, budget)]


def plain_kcenter(vectors: np.ndarray, budget: int) -> list[int]:
    """Distances of all rows to all centers, by scikit-learn, for each pick those to the new one."""
    from sklearn.metrics import pairwise_distances

    picks = kcenter(vectors, 1)
    distances = np.full(len(vectors), np.inf)
    while len(picks) < budget:
        distances = np.minimum(distances, pairwise_distances(vectors, vectors[picks[-1:]]).ravel())
        picks.append(int(distances.argmax()))
    return picks


def exact_facility(vectors: np.ndarray, budget: int) -> list[int]:
    search = LazyGreedy(FacilityLocation(vectors, vectors, NONE), np.arange(len(vectors)))
    return [row for row, _ in search.picks(budget)]


def plain_facility(vectors: np.ndarray, budget: int) -> list[int]:
    """All cosines at once, and what every row adds, for each pick."""
    cosines = vectors @ vectors.T
    cover, picks = np.zeros(len(vectors), dtype=np.float32), []
    for _ in range(budget):
        picks.append(int(np.maximum(cosines - cover[:, None], 0).sum(axis=0).argmax()))
        cover = np.maximum(cover, cosines[:, picks[-1]])
    return picks


def facility(vectors: np.ndarray, budget: int, loss: float = LOSS) -> list[int]:
    search = LazyGreedy(FacilityLocation(vectors, to_cover(vectors, 100_000), NONE), np.arange(len(vectors)))
    return [row for row, _ in search.stochastic_picks(budget, loss, 0)]


def probcover(vectors: np.ndarray, budget: int) -> list[int]:
    clusters = nearest(vectors, fit_centroids(vectors, CLASSES, 0))
    balls = Balls(vectors, pure_radius(vectors, clusters), NONE)
    return [row for row, _ in LazyGreedy(balls, np.arange(len(vectors))).picks(budget)]


def novelselect(vectors: np.ndarray, budget: int, weights: np.ndarray | None = None) -> list[int]:
    if weights is None:
        reference = to_cover(vectors, 100_000)
        weights = np.concatenate([density(vectors[block], reference) ** 0.5 for block in blocks(len(vectors))])
    novelty, picks = Novelty(vectors, weights), [0]
    novelty.add(0)
    while len(picks) < budget:
        values = novelty.values()
        values[picks] = -np.inf
        picks.append(int(values.argmax()))
        novelty.add(picks[-1])
    return picks


LARGE: Final[dict[str, Search]] = {
    "kcenter": kcenter,
    "facility": facility,
    "probcover": probcover,
    "novelselect": novelselect,
}


def timed(search: Search, vectors: np.ndarray, budget: int) -> tuple[list[int], float]:
    """Picks, and the processor's seconds."""
    with threadpool_limits(1):  # threads that wait for one another would count as work
        started = time.process_time()
        picks = search(vectors, budget)
        return picks, time.process_time() - started


def cover(vectors: np.ndarray, picks: list[int]) -> float:
    """The mean cover, block by block."""
    sums = [np.maximum((vectors[block] @ vectors[picks].T).max(axis=1), 0).sum() for block in blocks(len(vectors))]
    return float(sum(sums)) / len(vectors)


def novel_sum(vectors: np.ndarray, weights: np.ndarray, picks: list[int]) -> float:
    """NovelSum by its formula, per row."""
    apart = np.maximum(1 - vectors[picks] @ vectors[picks].T, 0)
    np.fill_diagonal(apart, np.inf)
    order = np.argsort(apart, axis=1, kind="stable")[:, :-1]
    terms = np.take_along_axis(apart, order, 1) * weights[picks][order] / np.arange(1, len(picks))
    return float(terms.sum(axis=1).mean())


def novelty_kept(vectors: np.ndarray, budget: int) -> None:
    """What is lost by keeping 128 ranks."""
    weights = density(vectors, vectors) ** 0.5
    search = partial(novelselect, weights=weights)
    kept, fast = timed(search, vectors, budget)
    with patch("selectllm.ranking.novelty.RANKED", budget):
        exact, slow = timed(search, vectors, budget)
    same = len(set(kept) & set(exact)) / budget
    drawn = np.random.default_rng(0).choice(len(vectors), budget, replace=False).tolist()
    values = " ".join(f"{novel_sum(vectors, weights, picks):.3f}" for picks in (exact, kept, drawn))
    print(f"\nnovelselect, {budget} rows: {same:.1%} of the exact rows, in {fast / slow:.2f} times the time")
    print(f"NovelSum of exact, kept and random rows: {values}")


def rouge(pool: str) -> None:
    """Rouge-L of a pool's rows against 1,000 of them, beside the library rouge-score on 3,000 pairs."""
    from rouge_score.rouge_scorer import RougeScorer

    rows = [json.loads(line)["instruction"] for line in Path(pool).read_text(encoding="utf-8").splitlines()]
    words = numbered_words(rows)
    started = time.process_time()
    rouge_l(words, words[:1000])
    fast, scorer, started = time.process_time() - started, RougeScorer(["rougeL"]), time.process_time()
    for first in rows[:30]:
        for second in rows[-100:]:
            scorer.score(first, second)
    slow = (time.process_time() - started) / 3000 * len(rows) * 1000
    print(f"\nRouge-L of {len(rows):,} x 1,000 rows: {fast:.2f} s; rouge-score {slow:,.0f} s, by 3,000 pairs")


def work(name: str, rows: int, budget: int, result: Connection) -> None:
    """Search a large pool in a process of its own: seconds of the processor, of the clock, bytes beside the vectors."""
    vectors = by_topics(rows)
    tracemalloc.start()
    started = time.perf_counter()
    _, seconds = timed(LARGE[name], vectors, budget)
    result.send((seconds, time.perf_counter() - started, tracemalloc.get_traced_memory()[1], vectors.nbytes))


def large(name: str, rows: int, budget: int) -> str:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(name, rows, budget, theirs), daemon=True)
    process.start()
    theirs.close()
    seconds, clock, more, held = ours.recv()
    process.join()
    return f"{name:<12} {seconds:>10,.0f} {clock:>10,.0f} {more / 2**20:>10,.0f} {held / 2**20:>10,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", nargs="?", help="a file with `embeddings` (M, d)")
    parser.add_argument("--texts", help="a JSONL file with `instruction`, for Rouge-L")
    parser.add_argument("--rows", type=int, default=100_000, help="of the large pool; 0 leaves it out")
    parser.add_argument("--budget", type=int, default=1000, help="of the large pool; 300 rows of the small one")
    parser.add_argument("--only", nargs="*", choices=LARGE, default=list(LARGE), help="strategies on the large pool")
    arguments = parser.parse_args()
    vectors = np.load(arguments.vectors)["embeddings"] if arguments.vectors else by_topics(3000)

    for name, ours, plain in (("kcenter", kcenter, plain_kcenter), ("facility", exact_facility, plain_facility)):
        (picks, fast), (expected, slow) = timed(ours, vectors, 300), timed(plain, vectors, 300)
        same = np.mean([a == b for a, b in zip(picks, expected, strict=True)])
        print(
            f"{name}: {slow / fast:.1f}x faster than plain ({slow:.2f} s, {len(vectors):,} rows), {same:.0%} same picks"
        )
    exact, seconds = timed(exact_facility, vectors, 300)
    best = cover(vectors, exact)
    print(f"\n{'facility by':<18} {'cover':>8} {'loss':>7} {'seconds':>8}")
    print(f"{'exact':<18} {best:>8.4f} {'':>7} {seconds:>8.2f}")
    for loss in (0.01, LOSS, 0.3):
        picks, seconds = timed(partial(facility, loss=loss), vectors, 300)
        value = cover(vectors, picks)
        print(f"{f'drawing, {loss:g}':<18} {value:>8.4f} {1 - value / best:>7.2%} {seconds:>8.2f}")
    drawn = cover(vectors, np.random.default_rng(0).choice(len(vectors), 300, replace=False).tolist())
    print(f"{'random rows':<18} {drawn:>8.4f} {1 - drawn / best:>7.2%}")
    novelty_kept(vectors, 500)
    if arguments.texts:
        rouge(arguments.texts)
    if arguments.rows:
        print(f"\n{arguments.rows:,} rows, budget {arguments.budget:,}")
        print(f"{'':<12} {'seconds':>10} {'by clock':>10} {'MiB more':>10} {'vectors':>10}", flush=True)
        for name in arguments.only:
            print(large(name, arguments.rows, arguments.budget), flush=True)


if __name__ == "__main__":
    main()
