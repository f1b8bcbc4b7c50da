"""An artifact of the store: its name, its manifest, and the key that says what it was made from."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from selectllm.store.digests import digest

RECORDED_PACKAGES: Final = (
    *("selectllm", "numpy", "pyarrow", "scikit-learn", "scipy"),
    *("sentence-transformers", "transformers", "tokenizers", "torch", "ollama", "openai", "xllamacpp"),
)
"""Packages whose versions are recorded with every artifact."""


class Artifact(BaseModel):
    """The name of a table in the store: its kind, and the digest of everything that it was made from."""

    model_config = ConfigDict(frozen=True)

    kind: str
    key: str


class Manifest(BaseModel):
    """What is known of an artifact: where it came from, and what its file must be."""

    model_config = ConfigDict(frozen=True)

    kind: str
    key: str
    code_version: int = Field(validation_alias=AliasChoices("code_version", "recipe"))  # `recipe` until 0.1.0
    made_from: dict[str, str]  # keys of the inputs
    inputs: dict[str, str]  # SHA-256 of the files of those inputs that are artifacts
    settings: dict[str, Any]
    facts: dict[str, Any]
    rows: int
    bytes: int
    sha256: str
    versions: dict[str, str]
    created: str

    @property
    def artifact(self) -> Artifact:
        """The name of the artifact that this describes."""
        return Artifact(kind=self.kind, key=self.key)


def content_key(kind: str, code_version: int, made_from: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The digest, 32 hex digits, of what an artifact is made from; never of times, hosts or secrets."""
    return digest(kind, code_version, dict(made_from), dict(settings))


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
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
