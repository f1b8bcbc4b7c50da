"""What embeddings and rankings must hold to.

Each row of the pool has one finite vector of unit length, in the pool's order. Each query ranks candidates of its own,
without gaps, and the reply that said so is known.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.quality.engine import validate, validate_tables
from selectllm.quality.rules import (
    PART_ROWS,
    Facts,
    FactTable,
    Rule,
    allow,
    between,
    named_columns,
    row_count,
    share,
    table_columns,
    unique,
)
from selectllm.quality.vector_facts import SLICE, VectorFacts, vector_facts
from selectllm.quality.verdicts import Verdict, merged
from selectllm.schemas import RANKINGS

NORM_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a vector of float32 numbers may lie."""

UNKNOWN: Final = "known_words"
ALIKE: Final = "told_apart"
"""The rules that warn of vectors that say little: the model knows no word of a row, or reads only its beginning."""

_EQUAL: Final = "expect_column_pair_values_to_be_equal"
_RANKS: Final = (
    allow("own_candidates", "is_candidate", True, reason="rows are not candidates of the query that ranks them"),
    unique("ranked_once", "id", reason="ids stand twice"),
    unique("unique_ranks", "query_id", "rank", reason="a query gives a rank twice"),
    Rule(
        "gapless_ranks", _EQUAL, {"column_A": "rank", "column_B": "place"}, reason="the ranks within a query have gaps"
    ),
    allow("reply_recorded", "has_reply", True, reason="ranks have no reply that said so"),
)


def validate_embeddings(embeddings: pa.Table, pool: pa.Table, dimension: int | None = None) -> Verdict:
    """Validate a table of the schema EMBEDDINGS; `dimension` is the model's, or else that of the first vector.

    Raises ContractError where Great Expectations and the cheap check disagree; a failing rule is the verdict's to say.
    """
    batches = embeddings.to_batches(max_chunksize=SLICE)
    return validate_embedding_batches(embeddings.schema, batches, pool["id"], dimension)


def validate_embedding_batches(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], pool_ids: pa.ChunkedArray, dimension: int | None = None
) -> Verdict:
    """Validate as `validate_embeddings` does, in batches of which one is in memory at a time."""
    vector = pa.list_(pa.float32())
    for field in schema:  # lists of any length and of any floating type will do
        is_list = pa.types.is_fixed_size_list(field.type) or pa.types.is_list(field.type)
        if field.name == "vector" and is_list and pa.types.is_floating(field.type.value_type):
            vector = field.type
    types = {"id": pa.string(), "vector": vector}
    is_right = {
        name: schema.names.count(name) == 1 and schema.field(name).type == type_ for name, type_ in types.items()
    }
    ids: list[pa.Array] = []

    def vectors() -> Iterator[pa.Array]:
        for batch in batches:
            for name in types:
                is_right[name] &= batch.column(name).null_count == 0
            if all(is_right.values()):
                ids.append(batch.column("id"))
                yield batch.column("vector")

    facts = vector_facts(vectors()) if all(is_right.values()) else None
    findings = validate(named_columns(is_right))
    if facts is not None and all(is_right.values()):
        tables = embedding_tables(facts, pa.chunked_array(ids, pa.string()), pool_ids, dimension)
        findings += merged([validate(table) for table in tables])
    return Verdict.of("embeddings", findings)


def embedding_tables(
    facts: VectorFacts, ids: pa.ChunkedArray, pool_ids: pa.ChunkedArray, dimension: int | None = None
) -> Iterator[FactTable]:
    """The facts about vectors, which stand under `ids`, and their rules; several tables where there are many."""
    expected = dimension or (int(facts.dimensions[0]) if len(facts.dimensions) else 0)
    low, high = 1 - NORM_TOLERANCE, 1 + NORM_TOLERANCE
    rules = (
        row_count(len(pool_ids), reason=f"{len(ids)} vectors for {len(pool_ids)} rows"),
        allow("ids_of_the_pool", "in_place", True, reason="vectors are not in the place of their rows"),
        allow("finite", "finite", True, reason="vectors are not finite"),
        between("unit_norm", "norm", low=low, high=high, reason="vectors are not of unit length"),
        allow("dimension", "dimension", expected, reason=f"vectors have not {expected} numbers"),
        allow(UNKNOWN, "unknown", False, severity="warning", reason="the model knows no word of rows"),
        allow(ALIKE, "alike", False, severity="warning", reason="rows have the vector of another row"),
    )
    if len(ids) <= PART_ROWS:
        yield FactTable("id", _columns(facts, ids, pool_ids, slice(0, len(ids))), rules)
        return
    yield FactTable("id", {"id": np.arange(len(ids))}, rules[:1])  # about the whole; it names no rows
    for start in range(0, len(ids), PART_ROWS):
        yield FactTable("id", _columns(facts, ids, pool_ids, slice(start, start + PART_ROWS)), rules[1:])


def _columns(facts: VectorFacts, ids: pa.ChunkedArray, pool_ids: pa.ChunkedArray, part: slice) -> Facts:
    """The facts about some of the vectors."""
    own, theirs = (each.slice(part.start, part.stop - part.start).to_numpy() for each in (ids, pool_ids))
    in_place = np.zeros(len(own), dtype=bool)
    shared = min(len(own), len(theirs))
    in_place[:shared] = own[:shared] == theirs[:shared]
    norms, dimensions = facts.norms[part], facts.dimensions[part]
    unknown = (norms == 0) & (dimensions > 0)
    return {
        "id": own,
        "in_place": in_place,
        "finite": np.isfinite(norms),
        "dimension": dimensions,
        "norm": np.where(unknown, np.nan, norms),  # counts as missing: a text without known words has no direction
        "unknown": unknown,
        "alike": facts.is_repeat[part] & ~unknown,
    }


def validate_rankings(
    rankings: pa.Table, queries: pa.Table, *, max_abstained: float, abstained: int | None = None
) -> Verdict:
    """Validate a table of the schema RANKINGS against the queries that were to be ranked.

    `max_abstained` is the share of queries that may have no rank. `abstained`, where it is known, is how many answers
    were missing by the ranker's count: no more queries may be without a rank. Raises as `validate_embeddings` does.
    """

    def tables() -> Iterator[FactTable]:
        yield from rank_tables(rankings, queries)
        all_query_ids = queries["query_id"].to_numpy()
        query_ids = all_query_ids[np.sort(np.unique(all_query_ids, return_index=True)[1])]
        unranked = ~np.isin(query_ids, rankings["query_id"].to_numpy())
        most = min(1.0, max_abstained + 1e-9)  # a share computed otherwise may differ in its last bit
        rules = [share("some_queries_ranked", "unranked", 1, strict=True), share("abstained_share", "unranked", most)]
        if abstained is not None:
            bound = {"column": "unranked", "max_value": abstained}
            rules.append(Rule("none_lost", "expect_column_sum_to_be_between", bound, counted="unranked"))
        yield FactTable("query_id", {"query_id": query_ids, "unranked": unranked.astype(float)}, tuple(rules))

    return validate_tables("rankings", tables())


def rank_tables(rankings: pa.Table, queries: pa.Table) -> Iterator[FactTable]:
    """The facts about the columns that rules about ranks look at, then those about each rank."""
    yield table_columns(rankings, [RANKINGS.field(name) for name in ("query_id", "rank", "id", "reply")])
    ids, replies = rankings["id"].to_numpy(), rankings["reply"].to_numpy()
    query_ids, ranks = rankings["query_id"].to_numpy(), rankings["rank"].to_numpy()
    shown = queries.filter(pc.is_in(queries["id"], value_set=rankings["id"].combine_chunks()))  # a set of all is large
    candidates = set(zip(shown["query_id"].to_pylist(), shown["id"].to_pylist(), strict=True))
    is_candidate = [pair in candidates for pair in zip(query_ids.tolist(), ids, strict=True)]
    all_query_ids = np.sort(queries["query_id"].to_numpy())
    size = np.searchsorted(all_query_ids, query_ids, "right") - np.searchsorted(all_query_ids, query_ids)
    # A rank's place is that among the different ranks of its query, from 1.
    (own_query, _), inverse = np.unique(np.stack([query_ids, ranks]), axis=1, return_inverse=True)
    places = np.arange(len(own_query)) - np.searchsorted(own_query, own_query) + 1
    facts = {
        "id": ids,
        "query_id": query_ids,
        "rank": ranks,
        "place": places[inverse.ravel()],
        "is_candidate": np.array(is_candidate, dtype=bool),
        # the last candidate of a query that is left is ranked without a question
        "has_reply": (replies != "") | (ranks == size),
    }
    yield FactTable("id", facts, _RANKS)
