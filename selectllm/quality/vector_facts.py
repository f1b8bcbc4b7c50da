"""Facts about vectors that come in parts: a few numbers of each, so that no part has to be held."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.quality.rules import Values
from selectllm.queries import DIGITS
from selectllm.store.digests import as_digests, first_places

SLICE: Final = 8192
"""Vectors looked at together, in float64: some 25 MB of 384 numbers each."""


@dataclass(frozen=True)
class VectorFacts:
    """Of each vector its length in space, its number of numbers, and a digest of these."""

    norms: Values
    dimensions: Values
    digests: Values

    @cached_property
    def is_repeat(self) -> Values:
        """Whether each vector is that of an earlier row."""
        firsts = first_places(self.digests)
        return np.asarray(firsts != np.arange(len(firsts)))


def vector_facts(parts: Iterable[pa.Array]) -> VectorFacts:
    """The facts about all vectors, which are lists of numbers, in parts of about `SLICE`."""
    return join_facts(map(_facts, parts))


def facts_from_digests(digests: Values, dimension: int) -> VectorFacts:
    """The facts about vectors that passed the checks before, from the digests (n,) that were taken then.

    The digest of zeros is that of a text of which the model knows no word. All others are of unit length.
    """
    unknown = as_digests(blake2b(np.zeros(dimension, dtype=np.float32).data, digest_size=16).digest())
    norms = np.where(digests == unknown, 0.0, 1.0)
    return VectorFacts(norms, np.full(len(digests), dimension, dtype=np.int32), digests)


def join_facts(parts: Iterable[VectorFacts]) -> VectorFacts:
    """The facts about the vectors of all parts, of which there may be none."""
    none = VectorFacts(np.empty(0), np.empty(0, dtype=np.int32), as_digests(b""))
    columns = zip(*((part.norms, part.dimensions, part.digests) for part in (none, *parts)), strict=True)
    return VectorFacts(*map(np.concatenate, columns))


def _facts(part: pa.Array) -> VectorFacts:
    lengths = pc.list_value_length(part).to_numpy(zero_copy_only=False)
    flat = part.flatten().to_numpy(zero_copy_only=False)
    digests = _digests(flat.round(DIGITS) + 0.0, lengths)  # no negative zeros
    return VectorFacts(_norms(flat.astype(float), lengths), lengths, digests)


def _norms(flat: Values, lengths: Values) -> Values:
    """The length of each vector; not finite where a number of it is not."""
    if len(lengths) and (lengths == lengths[0]).all():
        square = flat.reshape(len(lengths), -1)
        sums = np.einsum("ij,ij->i", square, square)
    else:
        row = np.repeat(np.arange(len(lengths)), lengths)
        sums = np.bincount(row, weights=flat * flat, minlength=len(lengths))
    return np.asarray(np.sqrt(sums))


def _digests(flat: Values, lengths: Values) -> Values:
    """A digest of the numbers of each vector."""
    found, begin = bytearray(), 0
    for end in np.cumsum(lengths).tolist():
        found += blake2b(flat[begin : (begin := int(end))].data, digest_size=16).digest()
    return as_digests(found)
