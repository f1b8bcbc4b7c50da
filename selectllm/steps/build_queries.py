"""The third step: the pool is divided into queries.

A pool that grew keeps the queries of the pool that it grew from, since their ranks are paid for: its new rows form
queries of their own, by the centroids of the first. Each such generation is an artifact, made from the one before.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm import queries
from selectllm.embedding.vector_cache import matrix
from selectllm.quality import checks
from selectllm.queries import Rows, Vectors
from selectllm.schemas import QUERIES, centroids
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.store import Artifact, Manifest, Store

CODE_VERSION: Final = 1
"""Raise it when the same vectors are to be divided otherwise."""

log = logging.getLogger(__name__)


def divide(store: Store, run: RunSettings, pool: StepResult, vectors: StepResult) -> StepResult:
    """Divide the pool into queries: afresh, or on top of those of the pool that it grew from."""
    embedded = store.manifest(vectors.artifact)
    model = embedded.settings["model"] if embedded else None
    settings = {**run.queries.model_dump(), "seed": run.seed, "embedded_by": model}
    kin = [one for one in store.manifests("queries") if one.code_version == CODE_VERSION and one.settings == settings]
    ours = [one for one in kin if one.made_from["embeddings"] == vectors.artifact.key]
    parent = None
    if not run.requery:
        parent = _parent(ours[-1]) if ours else _grown_from(store, run, kin, store.read(pool.artifact)["id"])
    slot = _slot(store, run, vectors, parent, settings)
    if made := slot.found():
        return made
    if parent and not _is_whole(store, run, parent):
        log.warning("the queries that the pool's grew from are gone: all are formed afresh")
        parent, slot = None, _slot(store, run, vectors, None, settings)
    return _form(store, run, slot, vectors, parent)


def _slot(
    store: Store, run: RunSettings, vectors: StepResult, parent: StepResult | None, settings: dict[str, Any]
) -> CacheEntry:
    before = {"queries": parent} if parent else {}
    return CacheEntry(store, run, "queries", CODE_VERSION, {"embeddings": vectors} | before, settings)


def _form(
    store: Store, run: RunSettings, slot: CacheEntry, vectors: StepResult, parent: StepResult | None
) -> StepResult:
    """Form a generation's queries, and keep them."""
    found, facts = _afresh(store, run, vectors) if parent is None else _grown(store, run, vectors, parent)
    checks.check_queries(found, store.read(vectors.artifact))
    count = len(pc.unique(found["query_id"]))
    return slot.keep(found, {"count": count, "size": run.queries.size, "composition": run.queries.composition, **facts})


def _afresh(store: Store, run: RunSettings, vectors: StepResult) -> tuple[pa.Table, dict[str, Any]]:
    """The first generation; the centroids that form it are kept for those to come."""
    table = store.read(vectors.artifact)
    points, asked = matrix(table), run.queries
    found, key = None, None
    if asked.composition in ("matched", "paper"):
        made = _fitted(store, run, vectors, queries.width_of(len(table), asked.size, asked.composition))
        found, key = matrix(store.read(made.artifact)), made.artifact.key
    rows = queries.form(points, asked.size, asked.composition, run.seed, found)
    return _table(rows, table["id"], 0), {"generation": 0, "formed": len(table), "centroids": key}


def _fitted(store: Store, run: RunSettings, vectors: StepResult, count: int) -> StepResult:
    """So many centroids of the vectors: found, or fitted and kept."""
    slot = CacheEntry(
        store, run, "centroids", CODE_VERSION, {"embeddings": vectors}, {"count": count, "seed": run.seed}
    )
    return slot.found() or slot.keep(
        _centroid_table(queries.fit_centroids(matrix(store.read(vectors.artifact)), count, run.seed)), {}
    )


def _grown(store: Store, run: RunSettings, vectors: StepResult, parent: StepResult) -> tuple[pa.Table, dict[str, Any]]:
    """The parent's queries, as far as all their rows are still there, and queries of all other rows."""
    before = store.manifest(parent.artifact)
    assert before is not None
    table = store.read(vectors.artifact)
    kept = _standing(store.read(parent.artifact), table["id"])
    left = _others(table["id"], kept)
    if 0 < len(left) < run.queries.size / 2 and len(kept):
        # Too few to choose among: a row that met no other would be first for nothing. The newest query takes them in.
        kept = kept.filter(pc.less(kept["query_id"], pc.max(kept["query_id"])))
        left = _others(table["id"], kept)
    points, asked = matrix(table)[left], run.queries
    rows = queries.form(points, asked.size, asked.composition, run.seed, _kept_centroids(store, run, before, len(left)))
    first = 1 + (pc.max(kept["query_id"]).as_py() if len(kept) else -1)
    new = _table(rows, table["id"].take(pa.array(left)), first)
    log.info("the pool has grown: %d of its rows keep their queries, %d form new ones", len(kept), len(left))
    facts = {
        "generation": before.facts["generation"] + 1,
        "formed": len(left),
        "centroids": before.facts["centroids"],
    }
    return pa.concat_tables([kept, new]), facts


def _parent(manifest: Manifest) -> StepResult | None:
    """What a generation was made from: known without looking, so that it may be gone when it is not needed."""
    return _input(manifest, "queries") if "queries" in manifest.made_from else None


def _grown_from(store: Store, run: RunSettings, kin: Sequence[Manifest], ids: pa.ChunkedArray) -> StepResult | None:
    """The queries of which most still stand in this pool, if those are of half its rows; of several the newest."""
    found, most = None, -(-len(ids) // 2) - 1
    for manifest in sorted(kin, key=lambda one: (one.rows, one.created), reverse=True):
        if manifest.rows <= most:
            break  # no more can stand than there are
        made = StepResult(
            artifact=Artifact(kind="queries", key=manifest.key), sha256=manifest.sha256, cached=True, seconds=0
        )
        if _is_whole(store, run, made) and (standing := len(_standing(store.read(made.artifact), ids))) > most:
            found, most = made, standing
    return found


def _is_whole(store: Store, run: RunSettings, generation: StepResult) -> bool:
    """Whether a generation is whole, or can be made again as it was, of the vectors that it was made from."""
    manifest = store.manifest(generation.artifact)
    if manifest is None:
        return False
    if not (fault := store.integrity_error(manifest)):
        return True
    log.warning("%s %s: it is made again", store.path(generation.artifact), fault)
    vectors, parent = _input(manifest, "embeddings"), _parent(manifest)
    if not store.is_intact(vectors.artifact) or (parent and not _is_whole(store, run, parent)):
        log.warning("%s cannot be made again: what it was made from is gone", store.path(generation.artifact))
        return False
    slot = _slot(store, run, vectors, parent, manifest.settings)
    return _form(store, run, slot, vectors, parent).sha256 == generation.sha256


def _input(manifest: Manifest, kind: str) -> StepResult:
    """What an artifact was made from, as it was then."""
    artifact = Artifact(kind=kind, key=manifest.made_from[kind])
    return StepResult(artifact=artifact, sha256=manifest.inputs[kind], cached=True, seconds=0)


def _standing(table: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The queries all of whose rows are among `ids`."""
    is_there = pc.is_in(table["id"], value_set=ids.combine_chunks())
    broken = pc.unique(table["query_id"].filter(pc.invert(is_there)))
    return table.filter(pc.invert(pc.is_in(table["query_id"], value_set=broken)))


def _others(ids: pa.ChunkedArray, table: pa.Table) -> Rows:
    """The places in `ids` of the rows that stand in none of the table's queries."""
    found: Rows = np.flatnonzero(pc.invert(pc.is_in(ids, value_set=table["id"].combine_chunks())).to_numpy())
    return found


def _kept_centroids(store: Store, run: RunSettings, before: Manifest, rows: int) -> Vectors | None:
    """The centroids of the first generation; None where there are none, or too few for queries of this many rows."""
    key = before.facts["centroids"]
    manifest = store.manifest(Artifact(kind="centroids", key=key)) if key and rows else None
    if manifest is None or manifest.settings["count"] < queries.width_of(
        rows, run.queries.size, run.queries.composition
    ):
        return None
    vectors = _input(manifest, "embeddings")
    if store.integrity_error(manifest) and not store.is_intact(vectors.artifact):
        log.warning("the centroids that queries were formed by are gone: new rows are divided by others")
        return None
    return matrix(store.read(_fitted(store, run, vectors, manifest.settings["count"]).artifact))


def _centroid_table(found: Vectors) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1])
    return pa.table([pa.array(range(len(found)), pa.int32()), flat], schema=centroids(found.shape[1]))


def _table(rows: Rows, ids: pa.ChunkedArray, first: int) -> pa.Table:
    """The rows (T, K) of `queries.form` as a table of QUERIES, numbered from `first`."""
    filled = rows != queries.EMPTY
    sizes = filled.sum(axis=1)
    columns = [
        pa.array(np.repeat(np.arange(first, first + len(rows)), sizes), pa.int64()),
        pa.array(np.concatenate([np.arange(size) for size in sizes] or [np.empty(0)]), pa.int32()),
        ids.take(pa.array(rows[filled])),
    ]
    return pa.table(columns, schema=QUERIES)
