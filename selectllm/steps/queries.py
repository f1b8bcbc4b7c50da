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

from selectllm import contracts, queries
from selectllm.queries import Rows, Vectors
from selectllm.schemas import QUERIES, centroids
from selectllm.settings import RunSettings
from selectllm.steps.made import Made, Slot
from selectllm.store import Artifact, Manifest, Store
from selectllm.vectors import matrix

RECIPE: Final = 1
"""Raise it when the same vectors are to be divided otherwise."""

log = logging.getLogger(__name__)


def divide(store: Store, run: RunSettings, pool: Made, vectors: Made) -> Made:
    """Divide the pool into queries: afresh, or on top of those of the pool that it grew from."""
    embedded = store.manifest(vectors.artifact)
    model = embedded.settings["model"] if embedded else None
    settings = {**run.queries.model_dump(), "seed": run.seed, "embedded_by": model}
    kin = [one for one in store.manifests("queries") if one.recipe == RECIPE and one.settings == settings]
    ours = [one for one in kin if one.made_from["embeddings"] == vectors.artifact.key]
    parent = None
    if not run.requery:
        ids = store.read(pool.artifact)["id"]
        parent = _parent(ours[-1]) if ours else _grown_from(store, kin, ids)

    def slot_on(parent: Made | None) -> Slot:
        before = {"queries": parent} if parent else {}
        return Slot(store, run, "queries", RECIPE, {"embeddings": vectors} | before, settings)

    slot = slot_on(parent)
    if made := slot.found():
        return made
    if parent and not store.whole(parent.artifact):
        log.warning("the queries that the pool's grew from are gone: all are formed afresh")
        parent, slot = None, slot_on(None)
    found, facts = _afresh(store, run, vectors) if parent is None else _grown(store, run, vectors, parent)
    contracts.check_queries(found, store.read(pool.artifact))
    count = len(pc.unique(found["query_id"]))
    return slot.keep(found, {"count": count, "size": run.queries.size, "composition": run.queries.composition, **facts})


def _afresh(store: Store, run: RunSettings, vectors: Made) -> tuple[pa.Table, dict[str, Any]]:
    """The first generation; the centroids that form it are kept for those to come."""
    table = store.read(vectors.artifact)
    points, asked = matrix(table), run.queries
    found, key = None, None
    if asked.composition in ("matched", "paper"):
        width = queries.width_of(len(table), asked.size, asked.composition)
        slot = Slot(store, run, "centroids", RECIPE, {"embeddings": vectors}, {"count": width, "seed": run.seed})
        made = slot.found()
        if made is None:
            found = queries.fit_centroids(points, width, run.seed)
            made = slot.keep(_centroid_table(found), {})
        found, key = matrix(store.read(made.artifact)), made.artifact.key
    rows = queries.form(points, asked.size, asked.composition, run.seed, found)
    return _table(rows, table["id"], 0), {"generation": 0, "formed": len(table), "centroids": key}


def _grown(store: Store, run: RunSettings, vectors: Made, parent: Made) -> tuple[pa.Table, dict[str, Any]]:
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


def _parent(manifest: Manifest) -> Made | None:
    """What a generation was made from: known without looking, so that it may be gone when it is not needed."""
    if "queries" not in manifest.made_from:
        return None
    artifact = Artifact(kind="queries", key=manifest.made_from["queries"])
    return Made(artifact=artifact, sha256=manifest.inputs["queries"], cached=True, seconds=0)


def _grown_from(store: Store, kin: Sequence[Manifest], ids: pa.ChunkedArray) -> Made | None:
    """The newest queries of which enough still stand in this pool: rows of at least half of it."""
    for manifest in reversed(kin):
        if 2 * manifest.rows < len(ids) or store.fault(manifest):
            continue
        artifact = Artifact(kind="queries", key=manifest.key)
        if 2 * len(_standing(store.read(artifact), ids)) >= len(ids):
            return Made(artifact=artifact, sha256=manifest.sha256, cached=True, seconds=0)
    return None


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
    artifact = Artifact(kind="centroids", key=key or "")
    if key is None or not rows or not store.whole(artifact):
        return None
    found = matrix(store.read(artifact))
    return found if len(found) >= queries.width_of(rows, run.queries.size, run.queries.composition) else None


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
