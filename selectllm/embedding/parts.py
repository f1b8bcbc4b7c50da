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
from selectllm.store.store import KeptPart

ONE_FILE_ROWS: Final = 16_384
"""Embeddings of so many rows, or fewer, are one file: 25 MB of vectors of 384 numbers."""

MOST_ROWS: Final = 32_768
"""No part holds more rows. Ids are digests, so that one in 4,096 ends a part."""

_END: Final = b"000"
_NOTE: Final = "vector_digests"


@dataclass(frozen=True)
class Shared:
    """A part that an earlier pool has had, too, and the digests (n,) that were noted of its vectors."""

    part: KeptPart
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
    """The parts of a pool in order, and `replaced`: other parts of those earlier pools that it shares some with."""

    cuts: tuple[Cut, ...]
    replaced: tuple[KeptPart, ...]

    @property
    def new(self) -> list[Cut]:
        """The parts that no earlier pool has had."""
        return [cut for cut in self.cuts if not cut.shared]


def cut(store: Store, ids: pa.ChunkedArray, made_by: str) -> CutPool:
    """Cut the rows of a pool into parts, whose vectors are `made_by` one model in one way, as a digest of both tells.

    The parts of earlier pools are intact. Raises StoreError when the store cannot be read.
    """
    names = as_bytes(ids)
    stops = _stops(names)
    spans = list(zip([0, *stops], stops, strict=False))
    keys = [digest("part", made_by, blake2b(names[start:stop].tobytes()).hexdigest()) for start, stop in spans]
    earlier = _intact_parts(store, frozenset(keys))
    shared = {key: _shared(store, earlier[key]) for key in keys if key in earlier}
    cuts = [Cut(start, stop - start, key, shared.get(key)) for (start, stop), key in zip(spans, keys, strict=True)]
    return CutPool(tuple(cuts), tuple(part for key, part in earlier.items() if key not in shared))


def kept_vectors(
    store: Store, parts: Iterable[KeptPart], ids: pa.ChunkedArray
) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """The vectors (M, d) of those of M rows that stand in some parts, and which do; d is 0 where none does.

    Raises StoreError where a part was damaged meanwhile.
    """
    found, known = np.empty((len(ids), 0), dtype=np.float32), np.zeros(len(ids), dtype=bool)
    lookup = IdLookup(as_bytes(ids))
    for part in parts:
        table = store.read_part(part)
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


def _intact_parts(store: Store, keys: frozenset[str]) -> dict[str, KeptPart]:
    """The intact parts of the latest artifacts that together have all parts with these keys that there are."""
    found: dict[str, KeptPart] = {}
    for manifest in reversed(store.manifests("embeddings")):
        if keys.isdisjoint(part.key for part in manifest.parts if part.key not in found):
            continue
        for part in manifest.parts:
            if part.key not in found and not store.part_error(manifest.artifact, part):
                found[part.key] = KeptPart(manifest, part)
    return found


def _shared(store: Store, kept: KeptPart) -> Shared | None:
    """A part with what was noted of it; None where that cannot be read: then the part is made again."""
    try:
        digests = as_digests(b64decode(store.notes(kept.manifest.artifact, kept.part)[_NOTE]))
    except (StoreError, FileNotFoundError, KeyError, ValueError):
        return None
    return Shared(kept, digests) if len(digests) == kept.part.rows else None
