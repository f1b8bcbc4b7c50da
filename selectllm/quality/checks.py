"""Cheap checks that always run, between every two steps: what a reader relies on is checked before it is relied on.

The rules are those of Great Expectations, where it validates the table. An error names the rows that break one; of a
table that is validated it carries a verdict too, since it is raised before the validation.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import ContractError
from selectllm.quality.output_rules import NORM_TOLERANCE, embedding_tables, rank_tables
from selectllm.quality.pool_rules import UNIQUE_ID
from selectllm.quality.rules import FactTable, Rule, allow, row_count, table_columns
from selectllm.quality.vector_facts import SLICE, VectorFacts, vector_facts
from selectllm.quality.verdicts import Boundary, Finding, Verdict, merged
from selectllm.schemas import POOL, PREFERENCES, SELECTION
from selectllm.store.digests import as_digests, first_places

_UNIQUE_ID: Final = replace(UNIQUE_ID, severity="critical", reason="ids stand twice")


def check_pool_table(pool: pa.Table) -> None:
    """The pool's own columns are there, and every id stands once."""
    _require("pool", [table_columns(pool, POOL), _ids(pool["id"], {})])


def check_pool_parts(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same for a pool that comes in parts, and goes on: the ids are looked at when all parts have gone."""
    content = bytearray()
    for part in parts:
        _require("pool", [table_columns(part, POOL)])
        content += bytes.fromhex("".join(part["id"].to_pylist()))
        yield part
    digests = as_digests(content)
    firsts = first_places(digests)
    repeated = digests[np.unique(firsts[firsts != np.arange(len(firsts))])]
    ids = [digest.tobytes().hex() for digest in repeated]
    _require("pool", [_ids(pa.chunked_array([ids + ids], pa.string()), {})])


def check_embeddings(vectors: npt.NDArray[np.float32], ids: pa.ChunkedArray) -> dict[str, int]:
    """Each id has one finite vector of unit length: `vectors` is of shape (len(ids), dimension).

    Returns how many rows break each rule that only warns: of vectors that say little.
    """
    return check_embedding_parts((vectors[start : start + SLICE] for start in range(0, len(vectors), SLICE)), ids)


def check_embedding_parts(parts: Iterable[npt.NDArray[np.float32]], ids: pa.ChunkedArray) -> dict[str, int]:
    """The same for vectors (n, d) that come in parts, of which one is in memory at a time."""
    return check_vector_facts(facts_about(parts), ids)


def facts_about(parts: Iterable[npt.NDArray[np.float32]]) -> VectorFacts:
    """What `check_vector_facts` needs to know of vectors (n, d) that come in parts."""
    return vector_facts(_slices(parts))


def check_vector_facts(facts: VectorFacts, ids: pa.ChunkedArray) -> dict[str, int]:
    """The same for vectors of which the facts are known."""
    beyond = max(0, len(facts.norms) - len(ids))
    names = pa.chunked_array([*ids.slice(0, len(facts.norms)).chunks, pa.array([""] * beyond, ids.type)])
    results = [table.check() for table in embedding_tables(facts, names, ids)]
    rules = {result.rule.name: result.rule for part in results for result in part}
    whole = merged([[result.finding for result in part] for part in results])
    return _refuse("embeddings", ((rules[finding.rule], finding) for finding in whole))


def _slices(parts: Iterable[npt.NDArray[np.float32]]) -> Iterator[pa.Array]:
    for part in parts:
        for start in range(0, len(part), SLICE):
            some = np.ascontiguousarray(part[start : start + SLICE])
            yield pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), some.shape[1])


def check_shard(vectors: npt.NDArray[np.float32], ids: pa.ChunkedArray) -> None:
    """What `check_embeddings` refuses, for vectors (M, d) that it will see again with all others of their pool."""
    norms = np.linalg.norm(vectors, axis=1)
    if len(norms) != len(ids) or not ((np.abs(norms - 1) < NORM_TOLERANCE) | (norms == 0)).all():
        check_embeddings(vectors, ids)  # says what is wrong


def check_queries(queries: pa.Table, ids: pa.ChunkedArray) -> None:
    """Every row of the pool, which has these `ids`, stands in exactly one query."""
    places = pc.index_in(queries["id"], value_set=ids.combine_chunks())
    if not places.null_count and (np.bincount(places.to_numpy(), minlength=len(ids)) == 1).all():
        return  # and nothing has to be named, for which Python would hold every id
    is_known = {"rows are not of the pool": places.is_valid()}
    _require("queries", [_ids(queries["id"], is_known, row_count(len(ids), reason="rows of the pool are missing"))])


def check_rankings(rankings: pa.Table, queries: pa.Table) -> None:
    """Every ranked row belongs to the query that ranks it, is ranked once, and ranks have no gaps."""
    _require("rankings", rank_tables(rankings, queries))


def check_tournament(tournament: pa.Table, tier: set[str]) -> None:
    """Every row of the tier has a place of its own, and no other row has."""
    is_of_tier = {"rows are not of the tier": [id in tier for id in tournament["id"].to_pylist()]}
    every_row = row_count(len(tier), reason="rows of the tier are missing")
    _require("tournament", [_ids(tournament["id"], is_of_tier, every_row)])


def check_preferences(preferences: pa.Table, pool_ids: pa.ChunkedArray) -> None:
    """Rows of the pool, each once, in the order of their places."""
    _require("preferences", [table_columns(preferences, PREFERENCES)])
    in_order = preferences["place"].to_numpy() == np.arange(1, len(preferences) + 1)
    is_known = pc.is_in(preferences["id"], pool_ids.combine_chunks())
    is_right = {"rows are not of the pool": is_known, "rows are not in the order of their places": in_order}
    _require("preferences", [_ids(preferences["id"], is_right)])


def check_selection(selection: pa.Table, budget: int) -> None:
    """Exactly the budget, no row twice, in order."""
    _require("selection", [table_columns(selection, SELECTION)])
    in_order = {"rows are not in order": selection["order"].to_numpy() == np.arange(1, len(selection) + 1)}
    _require("selection", [_ids(selection["id"], in_order, row_count(budget, reason=f"it has not {budget} rows"))])


def _ids(ids: pa.ChunkedArray, is_right: Mapping[str, Any], *rules: Rule) -> FactTable:
    """The facts about rows by their ids: whether each is right in a way that is named by the reason if it is not."""
    facts = {"id": ids.to_numpy()} | {reason: np.asarray(values, dtype=bool) for reason, values in is_right.items()}
    return FactTable("id", facts, (_UNIQUE_ID, *(allow("right", name, True, reason=name) for name in is_right), *rules))


def _require(name: str, tables: Iterable[FactTable]) -> dict[str, int]:
    """Raise ContractError for the first critical rule that fails; of a table that is validated, with a verdict.

    Returns how many rows break each rule that only warns.
    """
    return _refuse(name, ((rule, finding) for table in tables for rule, finding, _ in table.check()))


def _refuse(name: str, results: Iterable[tuple[Rule, Finding]]) -> dict[str, int]:
    warned: dict[str, int] = {}
    for rule, finding in ((rule, finding) for rule, finding in results if not finding.success):
        if not finding.is_failure:
            warned[rule.name] = finding.count
            continue
        fault = f"{rule.reason} ({finding.count_text})" if finding.about == "rows" else rule.reason
        raise ContractError(
            f"the {name} cannot be relied on: {fault}. This is a defect, or a file changed by hand: please report it",
            next((Verdict.of(boundary, [finding]) for boundary in get_args(Boundary) if boundary == name), None),
        )
    return warned
