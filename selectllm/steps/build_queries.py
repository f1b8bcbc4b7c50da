"""The third step: the pool is divided into queries, a large one block by block.

A pool that grew keeps the queries of the pool that it grew from, whose ranks are paid for. Its new rows form queries of
their own, by the centroids of the first. Each such generation is an artifact, made from the one before.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm import blocks, quality, queries
from selectllm.embedding.vector_cache import matrix
from selectllm.queries import Rows, Vectors
from selectllm.schemas import QUERIES, centroids
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.divide import StoredVectors, divide
from selectllm.store import Artifact, Manifest

CODE_VERSION: Final = 1
"""Raise it when the same vectors are to be divided otherwise."""

log = logging.getLogger(__name__)


def build_queries(context: Context, pool: StepResult, embeddings: StepResult) -> StepResult:
    """Divide the pool into queries: all anew, or on top of those of the pool that it grew from."""
    settings = context.settings
    embedded_by = embeddings.manifest.settings["model"]
    decisive = {**settings.queries.model_dump(), "seed": settings.seed, "embedded_by": embedded_by}
    parent = None if settings.requery else _find_parent(context, decisive, pool, embeddings)
    entry = _entry(context, embeddings, parent, decisive)
    # A large pool that was divided as a whole before stays so, also where that is made again: its ranks are paid for.
    if embeddings.manifest.rows > blocks.WHOLE_ROWS and not context.store.manifest(entry.artifact):
        decisive |= {"block_rows": blocks.BLOCK_ROWS}
        entry = _entry(context, embeddings, parent, decisive)
    if result := entry.load():
        return result
    if parent and not _is_available(context, parent):
        log.warning("the queries that the pool's grew from are gone: all are formed afresh")
        parent, entry = None, _entry(context, embeddings, None, decisive)
    return _build(context, entry, embeddings, parent, by_blocks="block_rows" in decisive)


def _find_parent(
    context: Context, decisive: dict[str, Any], pool: StepResult, embeddings: StepResult
) -> StepResult | None:
    """The generation that this pool's queries were built on before, else the one that it has grown from."""
    manifests = [
        manifest
        for manifest in context.store.manifests("queries")
        if manifest.code_version == CODE_VERSION and manifest.settings | decisive == manifest.settings
    ]
    same_pool = [manifest for manifest in manifests if manifest.made_from["embeddings"] == embeddings.artifact.key]
    if same_pool:
        return _parent(context, same_pool[-1])
    return _grown_from(context, manifests, pool.ids(context.store))


def _entry(context: Context, embeddings: StepResult, parent: StepResult | None, decisive: dict[str, Any]) -> CacheEntry:
    inputs = {"embeddings": embeddings} | ({"queries": parent} if parent else {})
    return CacheEntry(context.store, "queries", CODE_VERSION, inputs, decisive)


def _build(
    context: Context, entry: CacheEntry, embeddings: StepResult, parent: StepResult | None, *, by_blocks: bool
) -> StepResult:
    """Build a generation's queries, and save them; a large one `by_blocks`, or as a whole."""
    if parent is None:
        table, facts = _first_generation(context, embeddings, by_blocks=by_blocks)
    else:
        table, facts = _grown(context, embeddings, parent, by_blocks=by_blocks)
    quality.check_queries(table, StoredVectors(context.store, embeddings).ids)
    facts |= {"count": len(pc.unique(table["query_id"])), **context.settings.queries.model_dump()}
    return entry.save(table, facts)


def _first_generation(context: Context, embeddings: StepResult, *, by_blocks: bool) -> tuple[pa.Table, dict[str, Any]]:
    """Queries of the whole pool; the centroids that form them are kept for later generations."""
    vectors, options = StoredVectors(context.store, embeddings), context.settings.queries
    centers, key = None, None
    if options.composition in ("matched", "paper"):
        width = queries.width_of(len(vectors), options.size, options.composition)
        result = _fitted_centroids(context, embeddings, width)
        centers, key = matrix(result.table(context.store)), result.artifact.key
    rows = divide(vectors, options, context.settings.seed, centers, by_blocks=by_blocks)
    return _query_table(rows, vectors.ids, 0), {"generation": 0, "formed": len(vectors), "centroids": key}


def _fitted_centroids(context: Context, embeddings: StepResult, count: int) -> StepResult:
    """So many centroids of the vectors: loaded, or fitted and saved."""
    store, seed = context.store, context.settings.seed
    decisive = {"count": count, "seed": seed}
    entry = CacheEntry(store, "centroids", CODE_VERSION, {"embeddings": embeddings}, decisive)
    if result := entry.load():
        return result
    vectors = StoredVectors(store, embeddings)
    points = queries.fit_centroids(vectors.take(queries.fit_rows(len(vectors), seed)), count, seed)
    table = pa.table([range(len(points)), list(points)], schema=centroids(points.shape[1]))
    return entry.save(table, {})


def _grown(
    context: Context, embeddings: StepResult, parent: StepResult, *, by_blocks: bool
) -> tuple[pa.Table, dict[str, Any]]:
    """The parent's queries, as far as all their rows are still there, and queries of all other rows."""
    options, ids = context.settings.queries, StoredVectors(context.store, embeddings).ids
    kept = _complete_queries(parent.table(context.store), ids)
    others = _rows_without_query(ids, kept)
    if 0 < len(others) < options.size / 2 and len(kept):
        # Too few to choose among: a row that meets no other would be first for nothing. The newest query takes them in.
        kept = kept.filter(pc.less(kept["query_id"], pc.max(kept["query_id"])))
        others = _rows_without_query(ids, kept)
    centers = _first_centroids(context, parent.manifest, len(others))
    vectors = StoredVectors(context.store, embeddings, others)
    rows = divide(vectors, options, context.settings.seed, centers, by_blocks=by_blocks)
    first = 1 + (pc.max(kept["query_id"]).as_py() if len(kept) else -1)
    new = _query_table(rows, ids.take(pa.array(others)), first)
    log.info("the pool has grown: %d of its rows keep their queries, %d form new ones", len(kept), len(others))
    facts = {"generation": parent.facts["generation"] + 1, "centroids": parent.facts["centroids"]}
    return pa.concat_tables([kept, new]), facts | {"formed": len(others)}


def _parent(context: Context, manifest: Manifest) -> StepResult | None:
    """The generation that another was made from. It may be gone when it is not needed."""
    return _input(context, manifest, "queries") if "queries" in manifest.made_from else None


def _grown_from(context: Context, manifests: Sequence[Manifest], ids: pa.ChunkedArray) -> StepResult | None:
    """The queries of which most are complete in this pool, if those are of half its rows; of several the newest."""
    best, most = None, -(-len(ids) // 2) - 1
    for manifest in sorted(manifests, key=lambda manifest: (manifest.rows, manifest.created), reverse=True):
        if manifest.rows <= most:
            break  # no more rows can be in complete queries than there are
        result = StepResult(manifest=manifest, cached=True)
        if not _is_available(context, result):
            continue
        complete = len(_complete_queries(context.store.read(result.artifact), ids))
        if complete > most:
            best, most = result, complete
    return best


def _is_available(context: Context, generation: StepResult) -> bool:
    """Whether a generation is intact, or can be made again as it was, of the vectors that it was made from."""
    store = context.store
    manifest = store.manifest(generation.artifact)
    if manifest is None:
        return False
    if not (error := store.integrity_error(manifest)):
        return True
    log.warning("%s %s: it is made again", store.path(generation.artifact), error)
    vectors, parent = _input(context, manifest, "embeddings"), _parent(context, manifest)
    if not store.is_intact(vectors.artifact) or (parent and not _is_available(context, parent)):
        log.warning("%s cannot be made again: what it was made from is gone", store.path(generation.artifact))
        return False
    entry = _entry(context, vectors, parent, manifest.settings)
    by_blocks = "block_rows" in manifest.settings
    return _build(context, entry, vectors, parent, by_blocks=by_blocks).manifest.sha256 == generation.manifest.sha256


def _input(context: Context, manifest: Manifest, kind: str) -> StepResult:
    """What an artifact was made from, as it was then; it may be gone, and its table is read only where it is needed."""
    key, sha256 = manifest.made_from[kind], manifest.inputs[kind]
    known = context.store.manifest(Artifact(kind=kind, key=key))
    if known is None:
        nothing: dict[str, Any] = {"made_from": {}, "inputs": {}, "settings": {}, "facts": {}, "versions": {}}
        known = Manifest(kind=kind, key=key, sha256=sha256, code_version=0, rows=0, bytes=0, created="", **nothing)
    return StepResult(manifest=known.model_copy(update={"sha256": sha256, "stamp": None}), cached=True)


def _complete_queries(table: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """The queries all of whose rows are among `ids`."""
    is_there = pc.is_in(table["id"], value_set=ids.combine_chunks())
    broken = pc.unique(table["query_id"].filter(pc.invert(is_there)))
    return table.filter(pc.invert(pc.is_in(table["query_id"], value_set=broken)))


def _rows_without_query(ids: pa.ChunkedArray, table: pa.Table) -> Rows:
    """The places in `ids` of the rows that are in none of the table's queries."""
    return np.flatnonzero(pc.invert(pc.is_in(ids, value_set=table["id"].combine_chunks())).to_numpy())


def _first_centroids(context: Context, before: Manifest, rows: int) -> Vectors | None:
    """The centroids of the first generation; None where there are none, or too few for queries of this many rows."""
    store, options = context.store, context.settings.queries
    key = before.facts["centroids"]
    manifest = store.manifest(Artifact(kind="centroids", key=key)) if key and rows else None
    if manifest is None or manifest.settings["count"] < queries.width_of(rows, options.size, options.composition):
        return None
    vectors = _input(context, manifest, "embeddings")
    if store.integrity_error(manifest) and not store.is_intact(vectors.artifact):
        log.warning("the centroids that queries were formed by are gone: new rows are divided by others")
        return None
    return matrix(_fitted_centroids(context, vectors, manifest.settings["count"]).table(store))


def _query_table(rows: Rows, ids: pa.ChunkedArray, first: int) -> pa.Table:
    """The rows (T, K) of `queries.build_queries` as a table of QUERIES, numbered from `first`."""
    filled = rows != queries.EMPTY
    positions = np.cumsum(filled, axis=1) - 1  # counted from 0 over the filled places of each query
    query_ids = np.repeat(np.arange(first, first + len(rows)), filled.sum(axis=1))
    return pa.table([query_ids, positions[filled], ids.take(pa.array(rows[filled]))], schema=QUERIES)
