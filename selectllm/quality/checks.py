"""Cheap checks that always run, between every two steps: what a reader relies on is looked at, not assumed.

The rows that break one are named. Of a table that validation judges the error carries a verdict too, since it is raised
before Great Expectations comes to judge.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import ContractError
from selectllm.quality.verdicts import FIRST, Boundary, Finding, Verdict
from selectllm.queries import Vectors
from selectllm.schemas import POOL, SELECTION

_JUDGED: Final[dict[str, Boundary]] = {"pool": "pool", "embeddings": "embeddings", "rankings": "rankings"}


def check_pool(pool: pa.Table) -> None:
    """The pool's own columns are there, and every id stands once."""
    _has_columns(pool, POOL, "pool")
    _distinct(pool["id"], "pool")


def check_embeddings(vectors: Vectors, pool: pa.Table) -> None:
    """One finite vector of unit length for each row of the pool."""
    _require(len(vectors) == len(pool), "embeddings", "row_count", f"{len(vectors)} vectors for {len(pool)} rows")
    norms = np.linalg.norm(vectors, axis=1)
    _require_each(np.isfinite(norms), pool["id"], "embeddings", "finite", "vectors are not finite")
    is_unit = np.isclose(norms, 1, atol=1e-3)
    _require_each(is_unit, pool["id"], "embeddings", "unit_norm", "vectors are not of unit length")


def check_queries(queries: pa.Table, pool: pa.Table) -> None:
    """Every row of the pool stands in exactly one query."""
    _distinct(queries["id"], "queries")
    known = pc.is_in(queries["id"], pool["id"].combine_chunks())
    _require_each(known, queries["id"], "queries", "rows_of_the_pool", "rows are not of the pool")
    _require(len(queries) == len(pool), "queries", "row_count", "rows of the pool are missing")


def check_rankings(rankings: pa.Table, queries: pa.Table) -> None:
    """Every ranked row belongs to the query that ranks it, is ranked once, and ranks have no gaps."""
    ids = rankings["id"]
    _distinct(ids, "rankings")
    home = dict(zip(queries["id"].to_pylist(), queries["query_id"].to_pylist(), strict=True))
    ranks = list(zip(*(rankings[name].to_pylist() for name in ("query_id", "rank", "id")), strict=True))
    at_home = [home.get(id) == query_id for query_id, _, id in ranks]
    _require_each(at_home, ids, "rankings", "own_candidates", "rows are not candidates of the query that ranks them")
    places: dict[int, int] = {}
    in_place: dict[str, bool] = {}
    for query_id, rank, id in sorted(ranks):
        places[query_id] = places.get(query_id, 0) + 1
        in_place[id] = rank == places[query_id]
    gapless = [in_place[id] for _, _, id in ranks]
    _require_each(gapless, ids, "rankings", "gapless_ranks", "the ranks within a query have gaps")


def check_tournament(standings: pa.Table, level: set[str]) -> None:
    """Every row of the level has a place of its own, and no other row has."""
    _distinct(standings["id"], "tournament")
    is_level = set(standings["id"].to_pylist()) == level
    _require(is_level, "tournament", "rows_of_the_level", "rows are not those of the level")


def check_selection(selection: pa.Table, budget: int) -> None:
    """Exactly the budget, no row twice, in order."""
    _has_columns(selection, SELECTION, "selection")
    _distinct(selection["id"], "selection")
    in_order = selection["order"].to_pylist() == list(range(1, budget + 1))
    _require(in_order, "selection", "in_order", f"it is not {budget} rows in order")


def _has_columns(table: pa.Table, schema: pa.Schema, name: str) -> None:
    for field in schema:
        index = table.schema.get_field_index(field.name)
        known = index >= 0 and table.schema.field(index).type == field.type
        _require(known, name, "columns", f"the column {field.name!r} is missing or not {field.type}")


def _distinct(ids: pa.ChunkedArray, name: str) -> None:
    _require(ids.null_count == 0, name, "ids_present", "an id is missing")
    if len(pc.unique(ids)) < len(ids):
        is_first = np.zeros(len(ids), dtype=bool)
        is_first[np.unique(ids.to_numpy().astype(str), return_index=True)[1]] = True
        _require_each(is_first, ids, name, "unique_id", "ids stand twice")


def _require(holds: bool, name: str, rule: str, fault: str) -> None:
    if not holds:
        raise _broken(name, fault, _finding(rule, about="table"))


def _require_each(
    holds: npt.NDArray[Any] | Sequence[bool], ids: pa.ChunkedArray, name: str, rule: str, fault: str
) -> None:
    broken = np.flatnonzero(~np.asarray(holds, dtype=bool))
    if len(broken):
        first = tuple(ids[int(place)].as_py() for place in broken[:FIRST])
        share = len(broken) / len(ids)
        found = _finding(rule, about="rows", observed=share, count=len(broken), rows=len(ids), first=first)
        raise _broken(name, f"{fault} ({found.counted})", found)


def _finding(rule: str, **found: Any) -> Finding:
    """A finding told as an expectation of a column of facts, which is what validation makes of the same rule."""
    expectation, arguments = "expect_column_values_to_be_in_set", {"column": rule, "value_set": [True]}
    return Finding(
        rule=rule, success=False, severity="critical", key="id", expectation=expectation, arguments=arguments, **found
    )


def _broken(name: str, fault: str, found: Finding) -> ContractError:
    return ContractError(
        f"the {name} cannot be relied on: {fault}. This is a defect, or a file changed by hand: please report it",
        Verdict.of(_JUDGED[name], [found]) if name in _JUDGED else None,
    )
