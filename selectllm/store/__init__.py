"""The one cache, shared by the library and the flow: artifacts, files, run records and histories under one root."""

from selectllm.store.artifacts import Artifact, Manifest, Origin, digest, versions
from selectllm.store.store import Store

__all__ = ["Artifact", "Manifest", "Origin", "Store", "digest", "versions"]
