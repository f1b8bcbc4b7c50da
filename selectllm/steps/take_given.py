"""The second step where the user gives the vectors: they are checked, and become the embeddings of the pool."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm import quality
from selectllm.embedding.vector_cache import table_of
from selectllm.errors import StoreError
from selectllm.queries import Vectors
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.given_vectors import CODE_VERSION, given_vectors
from selectllm.store import Manifest, Store, digest


def take_given(context: Context, pool: StepResult, given: str) -> StepResult:
    """The embeddings of a pool from vectors that the user gives; the key depends on their content, not on its place."""
    store = context.store
    ids = pool.table(store)["id"].combine_chunks()
    vectors = given_vectors(given, pool.table(store))
    content = hashlib.blake2b(vectors.data, digest_size=16).hexdigest()
    origin = _origin(store, {"pool": pool.artifact.key, "vectors": content}, ids, vectors)
    entry = CacheEntry(store, "embeddings", CODE_VERSION, {"pool": pool, "vectors": content}, {"model": origin})
    if result := entry.load():
        return result
    warned = quality.check_embeddings(vectors, pa.chunked_array([ids]))
    facts = {"dimension": vectors.shape[1], "embedded": 0, "given": True, **warned}
    return entry.save(table_of(ids, vectors), facts)


def _origin(store: Store, made_from: dict[str, str], ids: pa.Array, vectors: Vectors) -> str:
    """What stands for the model that made the vectors, which nobody names: the digest of those that came first.

    Vectors of a pool that has grown have the origin of the earlier ones, as long as all rows of both have the same
    vector: so the queries of the earlier rows stay as they are.
    """
    earlier = [one for one in reversed(store.manifests("embeddings")) if one.facts.get("given")]
    same = [one for one in earlier if one.made_from == made_from]
    for manifest in same or earlier:
        if same or _agree(store, manifest, ids, vectors):
            return str(manifest.settings["model"])
    return digest("given", CODE_VERSION, made_from["vectors"])


def _agree(store: Store, manifest: Manifest, ids: pa.Array, vectors: Vectors) -> bool:
    """Whether earlier vectors are of rows of which some are here, and each of these has the same vector now."""
    shared = 0
    try:
        if manifest.facts["dimension"] != vectors.shape[1]:
            return False
        for batch in store.scan(manifest.artifact, ["id", "vector"]):
            places = pc.index_in(batch["id"], value_set=ids)
            is_here = places.is_valid()
            before = batch["vector"].filter(is_here).flatten().to_numpy().reshape(-1, vectors.shape[1])
            now = vectors[places.filter(is_here).to_numpy()]
            if not np.array_equal(before, now):
                return False
            shared += len(now)
    except (FileNotFoundError, StoreError):  # it is gone or damaged, and so are queries that were made from it
        return False
    return shared > 0
