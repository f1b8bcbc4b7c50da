"""An artifact of the store: its name, its manifest, and the key that says what it was made from."""

import hashlib
import json
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

RECORDED_PACKAGES: Final = (
    *("selectllm", "numpy", "pyarrow", "scikit-learn", "scipy"),
    *("sentence-transformers", "transformers", "tokenizers", "torch", "ollama", "openai", "xllamacpp"),
)
"""Packages whose versions are recorded with every artifact."""


# Made once: `json.dumps` makes one for every value.
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def digest(*parts: Any) -> str:
    """blake2b-128 in hex of the canonical JSON of `parts`: the name of whatever is kept by content."""
    return hashlib.blake2b(_canonical(parts).encode(), digest_size=16).hexdigest()


class Artifact(BaseModel):
    """The name of a table in the store: its kind, and the digest of everything that it was made from."""

    model_config = ConfigDict(frozen=True)

    kind: str
    key: str


class Origin(BaseModel):
    """What an artifact is made from: the keys of its inputs, the settings that matter, and the version of the code.

    `inputs` are the SHA-256 of the files of those inputs that are artifacts.
    """

    model_config = ConfigDict(frozen=True)

    code_version: int = Field(validation_alias=AliasChoices("code_version", "recipe"))  # `recipe` until 0.1.0
    made_from: dict[str, str]
    inputs: dict[str, str]
    settings: dict[str, Any]

    def content_key(self, kind: str) -> str:
        """The digest, 32 hex digits, of what an artifact is made from; never of times, hosts or secrets."""
        return digest(kind, self.code_version, self.made_from, self.settings)


class Part(BaseModel):
    """One Parquet file of an artifact, and what it must be: `name` is its name in the artifact's folder.

    `key` says what the part was made from, so that a later artifact can take it over; "" where none can.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    key: str
    rows: int
    bytes: int
    sha256: str
    stamp: str | None = None  # of a large file on a local disk: while the disk gives the same, nobody has written to it


class Manifest(Origin):
    """What is known of an artifact: where it came from, and what its file, or each of its parts, must be.

    Of an artifact in `parts`, `bytes` are those of all, and `sha256` is that of theirs, one behind the other.
    """

    kind: str
    key: str
    facts: dict[str, Any]
    rows: int
    bytes: int
    sha256: str
    versions: dict[str, str]
    created: str
    stamp: str | None = None  # as a part's; None where there are parts
    parts: tuple[Part, ...] = ()

    @property
    def files(self) -> tuple[Part, ...]:
        """The artifact's Parquet files in the order of their rows: its parts, or the one file, which has no name."""
        if self.parts:
            return self.parts
        return (Part(name="", key="", rows=self.rows, bytes=self.bytes, sha256=self.sha256, stamp=self.stamp),)

    @property
    def artifact(self) -> Artifact:
        """The name of the artifact that this describes."""
        return Artifact(kind=self.kind, key=self.key)


def parse_manifest(content: bytes) -> Manifest | None:
    """The manifest in the bytes of its file, or None where they hold none."""
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        return None


@cache
def versions() -> dict[str, str]:
    """The versions of the packages that decide results, as far as they are installed."""
    found = {}
    for package in RECORDED_PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
