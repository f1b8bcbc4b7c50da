"""Cheap checks that always run, between every two steps: what a reader relies on is looked at, not assumed."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import ContractError
from selectllm.queries import Vectors
from selectllm.schemas import POOL, SELECTION


def check_pool(pool: pa.Table) -> None:
    """The pool's own columns are there, and every id stands once."""
    _has_columns(pool, POOL, "pool")
    _distinct(pool["id"], "pool")


def check_embeddings(vectors: Vectors, pool: pa.Table) -> None:
    """One finite vector of unit length for each row of the pool."""
    _require(len(vectors) == len(pool), "embeddings", f"{len(vectors)} vectors for {len(pool)} rows")
    norms = np.linalg.norm(vectors, axis=1)
    _require(bool(np.isfinite(norms).all()), "embeddings", "a vector is not finite")
    _require(bool(np.allclose(norms, 1, atol=1e-3)), "embeddings", "a vector is not of unit length")


def check_queries(queries: pa.Table, pool: pa.Table) -> None:
    """Every row of the pool stands in exactly one query."""
    _distinct(queries["id"], "queries")
    _require(
        len(queries) == len(pool) and pc.all(pc.is_in(queries["id"], pool["id"].combine_chunks())).as_py() is not False,
        "queries",
        "rows of the pool are missing or unknown",
    )


def check_rankings(rankings: pa.Table, queries: pa.Table) -> None:
    """Every ranked row belongs to the query that ranks it, is ranked once, and ranks have no gaps."""
    _distinct(rankings["id"], "rankings")
    home = dict(zip(queries["id"].to_pylist(), queries["query_id"].to_pylist(), strict=True))
    ranks: dict[int, list[int]] = {}
    for query_id, rank, id in zip(*(rankings[name].to_pylist() for name in ("query_id", "rank", "id")), strict=True):
        _require(home.get(id) == query_id, "rankings", f"{id} is not a candidate of query {query_id}")
        ranks.setdefault(query_id, []).append(rank)
    for query_id, found in ranks.items():
        _require(
            sorted(found) == list(range(1, len(found) + 1)), "rankings", f"the ranks of query {query_id} have gaps"
        )


def check_tournament(standings: pa.Table, level: set[str]) -> None:
    """Every row of the level has a place of its own, and no other row has."""
    _distinct(standings["id"], "tournament")
    _require(set(standings["id"].to_pylist()) == level, "tournament", "rows are not those of the level")


def check_selection(selection: pa.Table, budget: int) -> None:
    """Exactly the budget, no row twice, in order."""
    _has_columns(selection, SELECTION, "selection")
    _distinct(selection["id"], "selection")
    _require(
        selection["order"].to_pylist() == list(range(1, budget + 1)), "selection", f"it is not {budget} rows in order"
    )


def _has_columns(table: pa.Table, schema: pa.Schema, name: str) -> None:
    for field in schema:
        index = table.schema.get_field_index(field.name)
        known = index >= 0 and table.schema.field(index).type == field.type
        _require(known, name, f"the column {field.name!r} is missing or not {field.type}")


def _distinct(ids: pa.ChunkedArray, name: str) -> None:
    _require(len(pc.unique(ids)) == len(ids), name, "an id stands twice")
    _require(ids.null_count == 0, name, "an id is missing")


def _require(holds: bool, name: str, fault: str) -> None:
    if not holds:
        raise ContractError(
            f"the {name} cannot be relied on: {fault}. This is a defect, or a file changed by hand: please report it"
        )
