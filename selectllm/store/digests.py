"""Digests: the names of everything that is kept by content."""

import hashlib
import json
from typing import Any


def digest(*parts: Any) -> str:
    """blake2b-128 in hex of the canonical JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
