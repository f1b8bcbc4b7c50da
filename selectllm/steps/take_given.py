"""The second step where the user gives the vectors: they are checked, and become the embeddings of the pool."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm import blocks, quality
from selectllm.embedding.ordered_vectors import OrderedVectors
from selectllm.embedding.vector_cache import table_of, tables_of
from selectllm.errors import StoreError
from selectllm.queries import Vectors
from selectllm.schemas import embeddings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.given_parts import given_into, is_read_in_parts
from selectllm.steps.given_vectors import CODE_VERSION, given_vectors
from selectllm.store import Manifest, Store, digest


def take_given(context: Context, pool: StepResult, given: str) -> StepResult:
    """The embeddings of a pool from vectors that the user gives; the key depends on their content, not on its place."""
    store, rows = context.store, pool.table(context.store)
    if len(rows) > blocks.WHOLE_ROWS and is_read_in_parts(given):
        return _take_large(context, pool, given)
    ids = rows["id"].combine_chunks()
    vectors = given_vectors(given, rows)
    content = hashlib.blake2b(vectors.data, digest_size=16).hexdigest()
    origin = _origin(store, {"pool": pool.artifact.key, "vectors": content}, ids, vectors, vectors.shape[1])
    entry = CacheEntry(store, "embeddings", CODE_VERSION, {"pool": pool, "vectors": content}, {"model": origin})
    if result := entry.load():
        return result
    warned = quality.check_embeddings(vectors, pa.chunked_array([ids]))
    facts = {"dimension": vectors.shape[1], "embedded": 0, "given": True, **warned}
    return entry.save(table_of(ids, vectors), facts)


def _take_large(context: Context, pool: StepResult, given: str) -> StepResult:
    """The same for a large pool, whose vectors lie in a file until they are checked and written."""
    store, rows = context.store, pool.table(context.store)
    ids = rows["id"].combine_chunks()
    with OrderedVectors(store.scratch, len(rows)) as vectors:
        given_into(vectors, given, rows)
        whole, digests = hashlib.blake2b(digest_size=16), []
        for part in vectors:
            whole.update(part.data)
            digests.append(_digests(part))
        content = whole.hexdigest()
        made_from = {"pool": pool.artifact.key, "vectors": content}
        origin = _origin(store, made_from, ids, np.concatenate(digests), vectors.dimension)
        entry = CacheEntry(store, "embeddings", CODE_VERSION, {"pool": pool, "vectors": content}, {"model": origin})
        if result := entry.load():
            return result
        chunked = pa.chunked_array([ids])
        warned = quality.check_embedding_parts(vectors, chunked)
        facts = {"dimension": vectors.dimension, "embedded": 0, "given": True, **warned}
        return entry.save_stream(embeddings(vectors.dimension), tables_of(chunked, vectors), facts)


def _digests(vectors: Vectors) -> npt.NDArray[np.bytes_]:
    """A digest (M,) of each vector (M, d), where these are too many to be held."""
    return np.array([hashlib.blake2b(vector.data, digest_size=16).hexdigest() for vector in vectors], dtype="S32")


def _origin(store: Store, made_from: dict[str, str], ids: pa.Array, now: npt.NDArray[Any], dimension: int) -> str:
    """What stands for the model that made the vectors, which nobody names: the digest of those that came first.

    Vectors of a pool that has grown have the origin of the earlier ones, as long as all rows of both have the same
    vector: so the queries of the earlier rows stay as they are. `now` are the vectors (M, d), or digests (M,) of them.
    """
    earlier = [one for one in reversed(store.manifests("embeddings")) if one.facts.get("given")]
    same = [one for one in earlier if one.made_from == made_from]
    for manifest in same or earlier:
        if same or _agree(store, manifest, ids, now, dimension):
            return str(manifest.settings["model"])
    return digest("given", CODE_VERSION, made_from["vectors"])


def _agree(store: Store, manifest: Manifest, ids: pa.Array, now: npt.NDArray[Any], dimension: int) -> bool:
    """Whether earlier vectors are of rows of which some are here, and each of these has the same vector now."""
    shared = 0
    try:
        if manifest.facts["dimension"] != dimension:
            return False
        for batch in store.scan(manifest.artifact, ["id", "vector"]):
            places = pc.index_in(batch["id"], value_set=ids)
            is_here = places.is_valid()
            before = batch["vector"].filter(is_here).flatten().to_numpy().reshape(-1, dimension)
            same = now[places.filter(is_here).to_numpy()]
            if not np.array_equal(before if now.ndim == 2 else _digests(before), same):
                return False
            shared += len(same)
    except (FileNotFoundError, StoreError):  # it is gone or damaged, and so are queries that were made from it
        return False
    return shared > 0
