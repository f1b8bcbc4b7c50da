"""What lies in a store: every artifact with where it came from, and how much is kept of each model's work."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from selectllm.errors import StoreError
from selectllm.store import Artifact, Manifest, Store, digest

STEPS: Final = (
    *("pool", "quarantine", "excluded", "embeddings", "centroids"),
    *("queries", "rankings", "tournament", "selection"),
)
"""Kinds of artifact in the order of the steps that make them; any others come after."""


@dataclass(frozen=True)
class ArtifactInfo:
    """An artifact as it lies in the store; `damage` says what is wrong with it, as far as names and sizes tell."""

    artifact: Artifact
    bytes: int  # of both its files
    created: datetime | None  # where no manifest says so, when its file was written; None where nobody tells
    manifest: Manifest | None
    damage: str | None


@dataclass(frozen=True)
class ModelFiles:
    """The files that keep one model's vectors or replies; its name where a ranking by it tells."""

    model: str
    name: str | None
    files: int
    bytes: int


@dataclass(frozen=True)
class Inventory:
    """A store's artifacts, by the order of the steps and then the newest first, and the models' work."""

    store: str
    items: tuple[ArtifactInfo, ...]
    vectors: tuple[ModelFiles, ...]
    replies: tuple[ModelFiles, ...]

    @property
    def bytes(self) -> int:
        """What all of it takes."""
        return sum(item.bytes for item in self.items) + sum(work.bytes for work in (*self.vectors, *self.replies))

    def record(self) -> dict[str, Any]:
        """The inventory as JSON takes it, with whole keys."""
        return {
            "store": self.store,
            "artifacts": [record(item) for item in self.items],
            "vectors": [asdict(work) for work in self.vectors],
            "replies": [asdict(work) for work in self.replies],
            "bytes": self.bytes,
        }


def record(item: ArtifactInfo) -> dict[str, Any]:
    """An artifact as JSON takes it."""
    return {
        "kind": item.artifact.kind,
        "key": item.artifact.key,
        "rows": item.manifest.rows if item.manifest else None,
        "bytes": item.bytes,
        "created": item.created.isoformat() if item.created else None,
        "made_from": item.manifest.made_from if item.manifest else {},
        "damage": item.damage,
    }


def take(store: Store) -> Inventory:
    """Look through a store, without reading a table; one that does not exist yet is empty.

    Raises StoreError when it cannot be read.
    """
    items = [item for kind in store.kinds() for item in _items(store, kind)]
    names = {
        digest(settings["model"]): str(settings["name"])  # as a ModelInfo's key is made
        for item in items
        if item.manifest and {"name", "model"} <= (settings := item.manifest.settings).keys()
    }
    items.sort(key=_order)
    return Inventory(store.location, tuple(items), _work(store, "vectors", {}), _work(store, "replies", names))


def _items(store: Store, kind: str) -> list[ArtifactInfo]:
    sizes = _sizes(store, f"artifacts/{kind}")
    manifests = {one.key: one for one in store.manifests(kind)}
    keys = sorted({name.rsplit(".", 1)[0] for name in sizes if name.endswith((".parquet", ".json"))})
    return [_item(store, Artifact(kind=kind, key=key), sizes, manifests.get(key)) for key in keys]


def _item(store: Store, artifact: Artifact, sizes: Mapping[str, int], manifest: Manifest | None) -> ArtifactInfo:
    table, beside = sizes.get(f"{artifact.key}.parquet"), sizes.get(f"{artifact.key}.json")
    size = (table or 0) + (beside or 0)
    if manifest is None and beside is not None:  # it may be one that failed to arrive among many: ask for it alone
        manifest = store.manifest(artifact)
    created = _created(manifest, artifact) if manifest else None
    if manifest is None or created is None:
        damage = "no manifest" if beside is None else "manifest unreadable"
        return ArtifactInfo(
            artifact, size, _written(store, artifact, "json" if table is None else "parquet"), None, damage
        )
    whole = table == manifest.bytes
    fault = None if whole else "table missing" if table is None else "table of another size"
    return ArtifactInfo(artifact, size, created, manifest, fault)


def _created(manifest: Manifest, artifact: Artifact) -> datetime | None:
    """When the artifact was made; None where the manifest is another's, or does not say so in any way we know."""
    if (manifest.kind, manifest.key) != (artifact.kind, artifact.key):
        return None
    try:
        created = datetime.fromisoformat(manifest.created)
    except ValueError:
        return None
    return created if created.tzinfo else created.replace(tzinfo=UTC)


def _written(store: Store, artifact: Artifact, end: str) -> datetime | None:
    """When one of the artifact's files was written; None where it has just gone, or its location does not tell."""
    try:
        written: datetime = store.files.modified(store.address(f"artifacts/{artifact.kind}/{artifact.key}.{end}"))
    except (FileNotFoundError, NotImplementedError):
        return None
    return written if written.tzinfo else written.replace(tzinfo=UTC)


def _work(store: Store, kind: str, names: Mapping[str, str]) -> tuple[ModelFiles, ...]:
    sizes = {folder.rsplit("/", 1)[-1]: list(_sizes(store, folder).values()) for folder in store.list(kind)}
    return tuple(ModelFiles(model, names.get(model), len(found), sum(found)) for model, found in sizes.items() if found)


def _sizes(store: Store, folder: str) -> dict[str, int]:
    """The files in a folder and their sizes; none that is still being written."""
    try:
        store.files.invalidate_cache(store.address(folder))
        found = store.files.ls(store.address(folder), detail=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # object stores have errors of their own
        raise StoreError(f"the store {store.location!r} cannot be read: {error}") from error
    names = {one["name"].rsplit("/", 1)[-1]: one["size"] for one in found if one["type"] == "file"}
    return {name: size for name, size in sorted(names.items()) if not name.startswith(".")}


def _order(item: ArtifactInfo) -> tuple[int, str, float, str]:
    kind, created = item.artifact.kind, item.created
    step = STEPS.index(kind) if kind in STEPS else len(STEPS)
    return step, kind, -created.timestamp() if created else 0.0, item.artifact.key
