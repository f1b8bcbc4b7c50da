"""The embeddings of a large pool as many files: where they are cut, and which of them an earlier pool has had, too.

A part ends with a row whose id ends with `000`. Where a row stands says nothing about that: so rows that are added or
removed change the parts that they stand in, and no others. Those are taken over as they are, and their vectors are not
read.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.embedding.ordered_vectors import Bytes, IdLookup, as_bytes
from selectllm.embedding.vector_cache import matrix
from selectllm.errors import StoreError
from selectllm.queries import Vectors
from selectllm.store import Store, digest
from selectllm.store.digests import Digests, as_digests
from selectllm.store.table_files import EarlierPart

ONE_FILE_ROWS: Final = 16_384
"""Embeddings of so many rows, or fewer, are one file: 25 MB of vectors of 384 numbers."""

MOST_ROWS: Final = 32_768
"""No part holds more rows. Ids are digests, so that one in 4,096 ends a part."""

_END: Final = b"000"
_NOTE: Final = "vector_digests"


@dataclass(frozen=True)
class Shared:
    """A part that an earlier pool has had, too, and the digests (n,) that were noted of its vectors."""

    part: EarlierPart
    digests: Digests


@dataclass(frozen=True)
class Cut:
    """A part of a pool's rows, which begins at row `start`; `shared` is the same part of an earlier pool."""

    start: int
    rows: int
    key: str
    shared: Shared | None


@dataclass(frozen=True)
class CutPool:
    """The parts of a pool in order, and the parts that it does not share of those pools that it shares others with.

    Most vectors of a part that is to be made anew stand in these.
    """

    cuts: tuple[Cut, ...]
    not_shared: tuple[EarlierPart, ...]

    @property
    def new(self) -> list[Cut]:
        """The parts that no earlier pool has had."""
        return [cut for cut in self.cuts if not cut.shared]


def cut(store: Store, ids: pa.ChunkedArray, made_by: str) -> CutPool:
    """Cut the rows of a pool into parts, whose vectors are `made_by` one model in one way, as a digest of both tells.

    Shared parts are intact. Raises StoreError when the store cannot be read.
    """
    names = as_bytes(ids)
    stops = _stops(names)
    spans = list(zip([0, *stops], stops, strict=False))
    keys = [digest("part", made_by, blake2b(names[start:stop].tobytes()).hexdigest()) for start, stop in spans]
    shared, not_shared = _earlier_parts(store, frozenset(keys))
    cuts = [Cut(start, stop - start, key, shared.get(key)) for (start, stop), key in zip(spans, keys, strict=True)]
    return CutPool(tuple(cuts), not_shared)


def vectors_from_parts(
    store: Store, parts: Iterable[EarlierPart], ids: pa.ChunkedArray
) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """The vectors (M, d) of those of M rows that stand in some parts, and which do; d is 0 where none does.

    Damaged parts are passed over.
    """
    found, known = np.empty((len(ids), 0), dtype=np.float32), np.zeros(len(ids), dtype=bool)
    lookup = IdLookup(as_bytes(ids))
    for part in parts:
        try:
            table = store.read_part(part)
        except StoreError:
            continue
        places = lookup.find(as_bytes(table["id"]))
        is_here = places >= 0
        if not found.shape[1]:
            found = np.zeros((len(ids), part.manifest.facts["dimension"]), dtype=np.float32)
        found[places[is_here]], known[places[is_here]] = matrix(table)[is_here], True
    return found, known


def note(digests: Digests) -> dict[str, str]:
    """What is noted at the end of a part: a digest (n,) of each of its vectors, to tell equal ones."""
    return {_NOTE: b64encode(digests.tobytes()).decode()}


def in_pieces(vectors: Iterable[Vectors], sizes: Sequence[int]) -> Iterator[Vectors]:
    """Vectors (M, d) that come in any parts, in pieces of these sizes."""
    source, rest = iter(vectors), np.empty((0, 0), dtype=np.float32)
    for size in sizes:
        pieces, missing = [], size
        while missing:
            if not len(rest):
                rest = next(source)
            pieces.append(rest[:missing])
            rest, missing = rest[missing:], missing - len(pieces[-1])
        yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _stops(ids: Bytes) -> list[int]:
    """Where each part stops: behind its last row."""
    last = ids.view(np.uint8).reshape(len(ids), -1)[:, -len(_END) :]
    ends = np.flatnonzero((last == np.frombuffer(_END, np.uint8)).all(axis=1)) + 1
    stops, start = [], 0
    for end in dict.fromkeys([*ends.tolist(), len(ids)]):
        stops += [*range(start + MOST_ROWS, end, MOST_ROWS), end]
        start = end
    return stops


def _earlier_parts(store: Store, keys: frozenset[str]) -> tuple[dict[str, Shared], tuple[EarlierPart, ...]]:
    """The intact parts with these keys that there are, by key, and the other parts of the artifacts that have them."""
    shared, others = dict[str, Shared](), dict[str, EarlierPart]()
    for manifest in reversed(store.manifests("embeddings")):
        parts = {part.key: EarlierPart(manifest, part) for part in manifest.parts}
        wanted = [key for key in parts if key in keys and key not in shared]
        if wanted:
            found = {key: _shared(store, parts[key]) for key in wanted}
            shared |= {key: part for key, part in found.items() if part}
            others |= {key: part for key, part in parts.items() if key not in keys}
    return shared, tuple(others.values())


def _shared(store: Store, earlier: EarlierPart) -> Shared | None:
    """A part with what was noted of it; None where it is damaged: then it is made again."""
    if not store.is_sound(earlier):
        return None
    digests = as_digests(b64decode(store.notes(earlier.manifest.artifact, earlier.part)[_NOTE]))
    return Shared(earlier, digests)
