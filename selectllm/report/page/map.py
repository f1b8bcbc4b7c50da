"""A map of the pool: its vectors in two dimensions, so that rows that are alike lie together."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.queries import Vectors
from selectllm.report.page.pool_facts import PoolFacts
from selectllm.report.page.source import RunSource

MOST_POINTS: Final = 20_000
"""Rows that a map shows; of a larger pool a sample, drawn by the run's seed."""

MOST_CHOSEN: Final = 10_000
"""Chosen rows that a map shows at most."""

SIDE: Final = 1000  # of the square that places are told in, in whole numbers

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PoolMap:
    """Rows of the pool by their places in the pool, and where each lies on each of the `projections` by name.

    Places (P, 2) are whole numbers from 0 to SIDE. `kept` is the share of the vectors' variance that PCA keeps.
    """

    rows: npt.NDArray[np.int64]
    projections: Mapping[str, Places]
    kept: float


def draw_map(source: RunSource, pool: PoolFacts, *, umap: bool) -> PoolMap | None:
    """Place the pool's rows, or a sample; None without vectors. With `umap`, by UMAP as well, where it is installed."""
    if not source.has("embeddings", "id", "vector"):
        return None
    rows = _sample(pool, int(source.summary.get("seed", 0)))
    found, vectors = _vectors(source, pool.ids.take(pa.array(rows)))
    rows = rows[found]
    if len(rows) < 3:
        return None
    flat, kept = _pca(vectors)
    projections = {"PCA": _on_square(flat)}
    if umap and has_umap():
        projections["UMAP"] = _on_square(_umap(vectors, int(source.summary.get("seed", 0))))
    return PoolMap(rows, projections, kept)


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return find_spec("umap") is not None


def _sample(pool: PoolFacts, seed: int) -> npt.NDArray[np.int64]:
    """Places of chosen rows, the first of the pool at most so many, and of others to fill the map up."""
    rng = np.random.default_rng(seed)
    chosen, others = np.flatnonzero(pool.chosen), np.flatnonzero(~pool.chosen)
    chosen = _some(chosen, MOST_CHOSEN, rng)
    return np.sort(np.concatenate([chosen, _some(others, MOST_POINTS - len(chosen), rng)]))


def _some(rows: npt.NDArray[np.int64], most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= most else rng.choice(rows, most, replace=False)


def _vectors(source: RunSource, ids: pa.Array) -> tuple[npt.NDArray[np.bool_], Vectors]:
    """The vectors of the rows that have one, in the rows' order, and which those are."""
    found, vectors = np.zeros(len(ids), bool), np.empty((len(ids), 0), np.float32)
    for batch in source.batches("embeddings", "id", "vector"):
        places = pc.index_in(batch["id"], value_set=ids)
        is_wanted = places.is_valid()
        wanted = places.filter(is_wanted).to_numpy()
        if not len(wanted):
            continue
        # Not `values`, which takes no notice of where a slice begins.
        part = batch["vector"].filter(is_wanted).flatten().to_numpy().reshape(len(wanted), -1)
        if not vectors.shape[1]:
            vectors = np.zeros((len(ids), part.shape[1]), np.float32)
        vectors[wanted], found[wanted] = part, True
    return found, vectors[found]


def _pca(vectors: Vectors) -> tuple[npt.NDArray[np.float64], float]:
    """The vectors along the two directions of most variance, and the share of the variance that these have.

    Each direction points to where its largest component is positive, so that the same vectors give the same map.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    two = directions[:, ::-1][:, :2]
    largest = np.abs(two).argmax(axis=0)
    two = two * np.where(two[largest, range(two.shape[1])] < 0, -1, 1)
    flat = centred @ two
    if flat.shape[1] < 2:  # vectors of one number
        flat = np.column_stack([flat, np.zeros(len(flat))])
    total = variances.sum()
    return flat, float(variances[::-1][:2].sum() / total) if total > 0 else 0.0


def _umap(vectors: Vectors, seed: int) -> npt.NDArray[np.float64]:
    import umap

    reducer: Any = umap.UMAP(metric="cosine", random_state=seed, n_jobs=1, n_neighbors=min(15, len(vectors) - 1))
    return np.asarray(reducer.fit_transform(vectors), dtype=np.float64)


def _on_square(flat: npt.NDArray[np.float64]) -> Places:
    """Places in whole numbers; each direction fills its side."""
    low, high = flat.min(axis=0), flat.max(axis=0)
    places: Places = ((flat - low) / np.maximum(high - low, np.finfo(float).tiny) * SIDE).round().astype(np.int64)
    return places
