"""What embeddings and rankings must hold to.

Each row of the pool has one finite vector of unit length, in the pool's order. Each query ranks candidates of its own,
without gaps, and the reply that said so is known.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.quality.engine import validate_tables
from selectllm.quality.rules import FactTable, Rule, Values, allow, between, row_count, share, table_columns, unique
from selectllm.quality.verdicts import Verdict
from selectllm.queries import DIGITS
from selectllm.schemas import RANKINGS

NORM_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a vector of float32 numbers may lie."""

UNKNOWN: Final = "known_words"
ALIKE: Final = "told_apart"
"""The rules that warn of vectors that say little: the model knows no word of a row, or reads only its beginning."""

_SLICE: Final = 8192  # vectors looked at together, in float64: some 25 MB of 384 dimensions

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

    def tables() -> Iterator[FactTable]:
        vector = pa.list_(pa.float32())
        for field in embeddings.schema:  # lists of any length and of any floating type will do
            is_list = pa.types.is_fixed_size_list(field.type) or pa.types.is_list(field.type)
            if field.name == "vector" and is_list and pa.types.is_floating(field.type.value_type):
                vector = field.type
        yield table_columns(embeddings, (pa.field("id", pa.string(), False), pa.field("vector", vector, False)))
        yield embedding_facts(embeddings["vector"], embeddings["id"].to_numpy(), pool["id"].to_numpy(), dimension)

    return validate_tables("embeddings", tables())


def embedding_facts(vectors: pa.ChunkedArray, ids: Values, pool_ids: Values, dimension: int | None = None) -> FactTable:
    """The facts about vectors, which stand under `ids`, and their rules."""
    norms, dimensions = _norms(vectors), pc.list_value_length(vectors).to_numpy()
    in_place = np.zeros(len(ids), dtype=bool)
    shared = min(len(ids), len(pool_ids))
    in_place[:shared] = ids[:shared] == pool_ids[:shared]
    unknown = (norms == 0) & (dimensions > 0)
    columns = {
        "id": ids,
        "in_place": in_place,
        "finite": np.isfinite(norms),
        "dimension": dimensions,
        "norm": np.where(unknown, np.nan, norms),  # counts as missing: a text without known words has no direction
        "unknown": unknown,
        "alike": _repeats(vectors) & ~unknown,
    }
    low, high = 1 - NORM_TOLERANCE, 1 + NORM_TOLERANCE
    expected = dimension or (int(dimensions[0]) if len(dimensions) else 0)
    rules = (
        row_count(len(pool_ids), reason=f"{len(ids)} vectors for {len(pool_ids)} rows"),
        allow("ids_of_the_pool", "in_place", True, reason="vectors are not in the place of their rows"),
        allow("finite", "finite", True, reason="vectors are not finite"),
        between("unit_norm", "norm", low=low, high=high, reason="vectors are not of unit length"),
        allow("dimension", "dimension", expected, reason=f"vectors have not {expected} numbers"),
        allow(UNKNOWN, "unknown", False, severity="warning", reason="the model knows no word of rows"),
        allow(ALIKE, "alike", False, severity="warning", reason="rows have the vector of another row"),
    )
    return FactTable("id", columns, rules)


def _repeats(vectors: pa.ChunkedArray) -> Values:
    """Whether each vector is that of an earlier row, but for its last bits."""
    seen: set[bytes] = set()
    is_repeat = np.zeros(len(vectors), dtype=bool)
    for start in range(0, len(vectors), _SLICE):
        part = vectors.slice(start, _SLICE).combine_chunks()
        flat = part.flatten().to_numpy(zero_copy_only=False).round(DIGITS) + 0.0  # no negative zeros
        begin = 0
        for place, end in enumerate(np.cumsum(pc.list_value_length(part).to_numpy(zero_copy_only=False)).tolist()):
            key = blake2b(flat[begin : (begin := int(end))], digest_size=16).digest()
            is_repeat[start + place] = key in seen
            seen.add(key)
    return is_repeat


def _norms(vectors: pa.ChunkedArray) -> Values:
    """The length of each vector; not finite where a number of it is not."""
    norms = np.empty(len(vectors))
    for start in range(0, len(vectors), _SLICE):
        part = vectors.slice(start, _SLICE).combine_chunks()
        flat = part.flatten().to_numpy(zero_copy_only=False).astype(float)
        lengths = pc.list_value_length(part).to_numpy(zero_copy_only=False)
        if len(part) and (lengths == lengths[0]).all():
            square = flat.reshape(len(part), -1)
            sums = np.einsum("ij,ij->i", square, square)
        else:
            row = np.repeat(np.arange(len(part)), lengths)
            sums = np.bincount(row, weights=flat * flat, minlength=len(part))
        norms[start : start + _SLICE] = np.sqrt(sums)
    return norms


def validate_rankings(
    rankings: pa.Table, queries: pa.Table, *, max_abstained: float, abstained: int | None = None
) -> Verdict:
    """Validate a table of the schema RANKINGS against the queries that were to be ranked.

    `max_abstained` is the share of queries that may have no rank. `abstained`, where it is known, is how many answers
    were missing by the ranker's count: no more queries may be without a rank. Raises as `validate_embeddings` does.
    """

    def tables() -> Iterator[FactTable]:
        yield from rank_tables(rankings, queries)
        query_ids = np.array(list(dict.fromkeys(queries["query_id"].to_pylist())), dtype=np.int64)
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
    candidates = set(zip(queries["query_id"].to_pylist(), queries["id"].to_pylist(), strict=True))
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
