"""Deals the rows of a pool that is too large to be held at once into blocks, each of which is divided by itself.

Rows are dealt by chance, so that each block is the pool in small, and its queries are as diverse as those of the whole:
benchmarks/blocks.py measures it. Blocks of like rows would leave a query few unlike ones to take. Only `similar`, which
wants like rows together, has blocks of neighbours.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from selectllm.execution import equal_shares
from selectllm.queries import Rows, Vectors, fit_rows, halve

WHOLE_ROWS: Final = 250_000
"""Pools up to this size are divided as a whole: 384 MB of vectors of 384 numbers."""

BLOCK_ROWS: Final = 100_000
"""Rows of a block, about: 150 MB of such vectors. Larger blocks gain nothing that can be measured."""

Blocks = npt.NDArray[np.int32]


def block_sizes(rows: int, size: int) -> list[int]:
    """How many of so many rows each block holds, for queries of at most `size` rows; one block up to `WHOLE_ROWS`.

    All but the last are multiples of `size`: so all blocks together give as many queries as the whole, and as large.
    """
    if not rows:
        return []
    blocks = 1 if rows <= WHOLE_ROWS else -(-rows // BLOCK_ROWS)
    held = [queries * size for queries in equal_shares(-(-rows // size), blocks)]
    held[-1] -= sum(held) - rows
    return held


def deal(sizes: Sequence[int], seed: int) -> Blocks:
    """The block (M,) of each row, from 0, by chance."""
    return np.random.default_rng(seed).permutation(_in_turn(sizes))


def deal_alike(parts: Iterable[Vectors], sizes: Sequence[int], seed: int) -> Blocks:
    """The block (M,) of each row, so that each block holds neighbours; blocks have exactly these sizes.

    `parts` are all vectors (M, d) in parts, gone through once for a sample, and once for each halving of the blocks.
    The line of a halving is found on the sample.
    """
    rng, rows = np.random.default_rng(seed), sum(sizes)
    sampled = fit_rows(rows, seed)
    sample = take(parts, sampled)
    first = np.zeros(rows, dtype=np.int32)  # of the blocks that a row may still belong to
    groups = [(0, len(sizes))]
    while any(end - begin > 1 for begin, end in groups):
        lines = np.zeros((len(sizes), sample.shape[1]), dtype=np.float32)
        for begin, end in groups:
            here = sample[first[sampled] == begin]
            share = sum(sizes[begin : _middle(begin, end)]) / sum(sizes[begin:end])
            if end - begin > 1 and len(here) > 1:
                _, lines[begin] = halve(here, min(max(round(share * len(here)), 1), len(here) - 1), rng)
        along = _along(parts, lines, first)
        for begin, end in groups:
            members = np.flatnonzero(first == begin)
            order = np.argsort(-along[members], kind="stable")
            if end - begin > 1:
                first[members[order[sum(sizes[begin : _middle(begin, end)]) :]]] = _middle(begin, end)
        halves = [half for begin, end in groups for half in ((begin, _middle(begin, end)), (_middle(begin, end), end))]
        groups = [(begin, end) for begin, end in halves if begin < end]
    return first


def take(parts: Iterable[Vectors], rows: Rows) -> Vectors:
    """The vectors of some rows, in ascending order, out of all vectors in parts."""
    found: list[Vectors] = []
    start = 0
    for part in parts:
        low, high = np.searchsorted(rows, (start, start + len(part)))
        found.append(part[rows[low:high] - start])
        start += len(part)
    return np.concatenate(found)


def _middle(begin: int, end: int) -> int:
    return begin + (end - begin) // 2


def _along(parts: Iterable[Vectors], lines: Vectors, line_of: Blocks) -> npt.NDArray[np.float32]:
    """How far each row lies along its line."""
    along, start = np.empty(len(line_of), dtype=np.float32), 0
    for part in parts:
        stop = start + len(part)
        along[start:stop] = np.einsum("ij,ij->i", part, lines[line_of[start:stop]])
        start = stop
    return along


def _in_turn(sizes: Sequence[int]) -> Blocks:
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
