"""Cheap checks that always run, between every two steps: what a reader relies on is checked before it is relied on.

The rules are those of Great Expectations, where it validates the table. An error names the rows that break one; of a
table that is validated it carries a verdict too, since it is raised before the validation.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import ContractError
from selectllm.quality.columns import of_schema, table_columns
from selectllm.quality.embedding_rules import embedding_facts
from selectllm.quality.pool_rules import UNIQUE_ID
from selectllm.quality.ranking_rules import rank_columns, rank_facts
from selectllm.quality.rules import FactTable, Rule, allow, row_count
from selectllm.quality.verdicts import Boundary, Finding, Verdict
from selectllm.schemas import POOL, PREFERENCES, SELECTION

_UNIQUE_ID: Final = replace(UNIQUE_ID, severity="critical", reason="ids stand twice")


def check_pool_table(pool: pa.Table) -> None:
    """The pool's own columns are there, and every id stands once."""
    _require("pool", table_columns(pool, of_schema(POOL)), _ids(pool["id"], _UNIQUE_ID))


def check_embeddings(vectors: npt.NDArray[np.float32], ids: pa.ChunkedArray) -> None:
    """Each id has one finite vector of unit length: `vectors` is of shape (len(ids), dimension)."""
    names = np.full(len(vectors), "", dtype=object)
    names[: len(ids)] = ids.to_numpy()[: len(vectors)]
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    lists = pa.chunked_array([pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])])
    _require("embeddings", embedding_facts(lists, names, ids.to_numpy()))


def check_queries(queries: pa.Table, ids: pa.ChunkedArray) -> None:
    """Every row of the pool, which has these `ids`, stands in exactly one query."""
    rules = (
        _UNIQUE_ID,
        allow("rows_of_the_pool", "is_known", True, reason="rows are not of the pool"),
        row_count(len(ids), reason="rows of the pool are missing"),
    )
    _require("queries", _ids(queries["id"], *rules, is_known=pc.is_in(queries["id"], ids.combine_chunks())))


def check_rankings(rankings: pa.Table, queries: pa.Table) -> None:
    """Every ranked row belongs to the query that ranks it, is ranked once, and ranks have no gaps."""
    _require("rankings", rank_columns(rankings))
    _require("rankings", rank_facts(rankings, queries))


def check_tournament(tournament: pa.Table, tier: set[str]) -> None:
    """Every row of the tier has a place of its own, and no other row has."""
    rules = (
        _UNIQUE_ID,
        allow("rows_of_the_tier", "is_of_tier", True, reason="rows are not of the tier"),
        row_count(len(tier), reason="rows of the tier are missing"),
    )
    is_of_tier = [id in tier for id in tournament["id"].to_pylist()]
    _require("tournament", _ids(tournament["id"], *rules, is_of_tier=is_of_tier))


def check_preferences(preferences: pa.Table, pool_ids: pa.ChunkedArray) -> None:
    """Rows of the pool, each once, in the order of their places."""
    rules = (
        _UNIQUE_ID,
        allow("rows_of_the_pool", "is_known", True, reason="rows are not of the pool"),
        allow("in_order", "is_in_order", True, reason="rows are not in the order of their places"),
    )
    _require("preferences", table_columns(preferences, of_schema(PREFERENCES)))
    is_known = pc.is_in(preferences["id"], value_set=pool_ids.combine_chunks()).to_numpy()
    is_in_order = preferences["place"].to_numpy() == np.arange(1, len(preferences) + 1)
    _require("preferences", _ids(preferences["id"], *rules, is_known=is_known, is_in_order=is_in_order))


def check_selection(selection: pa.Table, budget: int) -> None:
    """Exactly the budget, no row twice, in order."""
    rules = (
        _UNIQUE_ID,
        row_count(budget, reason=f"it has not {budget} rows"),
        allow("in_order", "is_in_order", True, reason="rows are not in order"),
    )
    _require("selection", table_columns(selection, of_schema(SELECTION)))
    is_in_order = selection["order"].to_numpy() == np.arange(1, len(selection) + 1)
    _require("selection", _ids(selection["id"], *rules, is_in_order=is_in_order))


def _ids(ids: pa.ChunkedArray, *rules: Rule, **facts: Sequence[bool] | npt.NDArray[Any]) -> FactTable:
    columns = {name: np.asarray(values, dtype=bool) for name, values in facts.items()}
    return FactTable("id", {"id": ids.to_numpy(), **columns}, rules)


def _require(name: str, *tables: FactTable) -> None:
    """Raise ContractError for the first rule that fails."""
    for table in tables:
        for result in table.check():
            if not result.finding.success:
                raise ContractError(
                    f"the {name} cannot be relied on: {_fault(result.rule, result.finding)}. This is a defect, or a "
                    "file changed by hand: please report it",
                    _verdict(name, result.finding),
                )


def _fault(rule: Rule, finding: Finding) -> str:
    return f"{rule.reason} ({finding.count_text})" if finding.about == "rows" else rule.reason


def _verdict(name: str, finding: Finding) -> Verdict | None:
    boundaries: dict[str, Boundary] = {boundary: boundary for boundary in get_args(Boundary)}
    return Verdict.of(boundaries[name], [finding]) if name in boundaries else None
