"""Counts rows of a selection that nearly repeat another one: with N answers to pay for, a second one buys little."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import pyarrow as pa

from selectllm.text import words

SHARE: Final = 0.5
"""Of the word triples of two texts together, the share that both have, from which they nearly repeat each other."""

WORDS: Final = 3  # in a row, that count as one thing that two texts share
POSTINGS: Final = 20  # earlier texts that are looked up by a triple: a family of texts is known by its first members


def count_near_repeated_rows(rows: pa.Table) -> int:
    """How many rows of a POOL or a SELECTION nearly repeat an earlier one, by instruction and input."""
    texts = zip(rows["instruction"].to_pylist(), rows["input"].to_pylist(), strict=True)
    return count_near_repeats(f"{instruction}\n{input or ''}" for instruction, input in texts)


def count_near_repeats(texts: Iterable[str]) -> int:
    """How many texts nearly repeat an earlier one; of three that are alike, two do. Linear in the texts' length."""
    found = 0
    earlier: list[int] = []  # how many triples each text has
    texts_of: defaultdict[int, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        triples = _triples(text)
        shared = Counter(other for triple in triples for other in texts_of.get(triple, ()))
        found += any(both >= SHARE * (len(triples) + earlier[other] - both) for other, both in shared.items())
        earlier.append(len(triples))
        for triple in triples:
            if len(texts_of[triple]) < POSTINGS:
                texts_of[triple].append(place)
    return found


def _triples(text: str) -> set[int]:
    found = words(text)
    if not found:
        return set()
    return {hash(tuple(found[start : start + WORDS])) for start in range(max(len(found) - WORDS + 1, 1))}
