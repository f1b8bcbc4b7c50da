"""Digests of 16 bytes in arrays, and which of them are the same: a set of a million would take six times the memory."""

from typing import Final

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
Digests = npt.NDArray[np.void]

_DIGEST: Final = np.dtype([("high", "<u8"), ("low", "<u8")])


def as_digests(content: bytes | bytearray) -> Digests:
    """Digests of 16 bytes (n,), each behind the other in `content`, as `first_places` takes them."""
    return np.frombuffer(content, dtype=_DIGEST)


def first_places(digests: Digests) -> Places:
    """For each of some digests (n,) the place of the first that is the same."""
    order = np.lexsort((digests["low"], digests["high"]))  # stable: of equal ones the first comes first
    in_order = digests[order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = in_order[1:] != in_order[:-1]
    firsts = np.empty(len(order), dtype=np.int64)
    firsts[order] = order[is_new][np.cumsum(is_new) - 1]
    return firsts
