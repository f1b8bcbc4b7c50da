"""What is in a store: every artifact with where it came from, and the vectors and replies of each model."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from selectllm.store import Artifact, Manifest, Store, digest
from selectllm.store.root import last_part

STEPS: Final = (
    *("pool", "quarantine", "too_near", "excluded", "targets", "strata", "embeddings", "centroids"),
    *("queries", "rankings", "passes", "looks", "ratings", "tournament", "row_ratings", "likelihoods"),
    *("preferences", "near_duplicates", "selection", "reasons"),
    *("answers", "overlaps", "conversations", "mt_bench_judgments", "judgements"),
)
"""Kinds of artifact in the order of the steps that make them; any others come last."""


@dataclass(frozen=True)
class ArtifactInfo:
    """An artifact as it is in the store; `damage` says what is wrong with it, as far as names and sizes show it."""

    artifact: Artifact
    bytes: int  # of its table and its manifest
    created: datetime | None  # as its manifest says, else when its file was written; None where that is unknown
    manifest: Manifest | None
    damage: str | None

    @property
    def newest_first(self) -> tuple[float, str]:
        """What puts artifacts in order, the newest first and those of an unknown time last."""
        return -self.created.timestamp() if self.created else 0.0, self.artifact.key


@dataclass(frozen=True)
class ModelFiles:
    """The files that hold one model's vectors or replies; the model's name is known where rankings name it."""

    model: str
    name: str | None
    files: int
    bytes: int


@dataclass(frozen=True)
class Inventory:
    """A store's artifacts, in the order of the steps and then the newest first, and the models' vectors and replies."""

    store: str
    artifacts: tuple[ArtifactInfo, ...]
    vectors: tuple[ModelFiles, ...]
    replies: tuple[ModelFiles, ...]

    @property
    def bytes(self) -> int:
        """The size of all of it."""
        return sum(info.bytes for info in self.artifacts) + sum(files.bytes for files in (*self.vectors, *self.replies))

    def record(self) -> dict[str, Any]:
        """The inventory as JSON takes it, with whole keys."""
        return {
            "store": self.store,
            "artifacts": [artifact_record(info) for info in self.artifacts],
            "vectors": [asdict(files) for files in self.vectors],
            "replies": [asdict(files) for files in self.replies],
            "bytes": self.bytes,
        }


def artifact_record(info: ArtifactInfo) -> dict[str, Any]:
    """An artifact as JSON takes it."""
    return {
        "kind": info.artifact.kind,
        "key": info.artifact.key,
        "rows": info.manifest.rows if info.manifest else None,
        "bytes": info.bytes,
        "created": info.created.isoformat() if info.created else None,
        "made_from": info.manifest.made_from if info.manifest else {},
        "damage": info.damage,
    }


def scan(store: Store) -> Inventory:
    """List everything in a store, without reading a table; a store that does not exist yet is empty.

    Raises StoreError when it cannot be read.
    """
    kinds = sorted(store.kinds(), key=lambda kind: STEPS.index(kind) if kind in STEPS else len(STEPS))
    infos = [info for kind in kinds for info in _artifacts(store, kind)]
    names = {
        digest(settings["model"]): str(settings["name"])  # as a ModelInfo's key is made
        for info in infos
        if info.manifest and {"name", "model"} <= (settings := info.manifest.settings).keys()
    }
    vectors, replies = _model_files(store, "vectors", {}), _model_files(store, "replies", names)
    return Inventory(store.location, tuple(infos), vectors, replies)


def _artifacts(store: Store, kind: str) -> list[ArtifactInfo]:
    sizes = _table_sizes(store, f"artifacts/{kind}")
    manifests = {manifest.key: manifest for manifest in store.manifests(kind)}
    keys = {name.rsplit(".", 1)[0] for name in sizes if name.endswith((".parquet", ".json"))}
    infos = [_artifact_info(store, Artifact(kind=kind, key=key), sizes, manifests.get(key)) for key in keys]
    return sorted(infos, key=lambda info: info.newest_first)


def _table_sizes(store: Store, folder: str) -> dict[str, int]:
    """The sizes of the files in a folder, and those of the folders in it that hold parts of a table."""
    sizes = store.sizes(folder)
    folders = [name for name in map(last_part, store.list(folder)) if name not in sizes]
    return sizes | {name: sum(store.sizes(f"{folder}/{name}").values()) for name in folders}


def _artifact_info(store: Store, artifact: Artifact, sizes: dict[str, int], manifest: Manifest | None) -> ArtifactInfo:
    table, description = sizes.get(f"{artifact.key}.parquet"), sizes.get(f"{artifact.key}.json")
    size = (table or 0) + (description or 0)
    if manifest is None and description is not None:  # it may have failed to arrive among many: ask for it alone
        manifest = store.manifest(artifact)
    created = _created(manifest, artifact) if manifest else None
    if manifest is None or created is None:
        written = _written(store, artifact, "json" if table is None else "parquet")
        reason = "no manifest" if description is None else "manifest unreadable"
        return ArtifactInfo(artifact, size, written, None, reason)
    is_whole = table == manifest.bytes
    damage = None if is_whole else "table missing" if table is None else "table of another size"
    return ArtifactInfo(artifact, size, created, manifest, damage)


def _created(manifest: Manifest, artifact: Artifact) -> datetime | None:
    """When the artifact was made; None where the manifest is another's, or its time cannot be read."""
    with suppress(ValueError):
        created = datetime.fromisoformat(manifest.created)
        if manifest.artifact == artifact:
            return created if created.tzinfo else created.replace(tzinfo=UTC)
    return None


def _written(store: Store, artifact: Artifact, suffix: str) -> datetime | None:
    """When an artifact's file, or the last of its parts, was written; None where it has just gone, or nothing says."""
    name = f"artifacts/{artifact.kind}/{artifact.key}.{suffix}"
    with suppress(OSError, NotImplementedError):
        names = store.list(name) if store.files.isdir(store.address(name)) else [name]
        times: list[datetime] = [store.files.modified(store.address(each)) for each in names]
        return max((time if time.tzinfo else time.replace(tzinfo=UTC) for time in times), default=None)
    return None


def _model_files(store: Store, kind: str, names: Mapping[str, str]) -> tuple[ModelFiles, ...]:
    sizes = {folder.rsplit("/", 1)[-1]: store.sizes(folder).values() for folder in store.list(kind)}
    return tuple(ModelFiles(model, names.get(model), len(files), sum(files)) for model, files in sizes.items() if files)
