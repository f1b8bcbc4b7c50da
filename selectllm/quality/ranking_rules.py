"""What rankings must hold to: each query ranks candidates of its own, without gaps, and the reply is known."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from selectllm.quality.engine import validate_tables
from selectllm.quality.rules import FactTable, allow, equal, share, table_columns, total, unique
from selectllm.quality.verdicts import Verdict
from selectllm.schemas import RANKINGS

_RANKS: Final = (
    allow("own_candidates", "is_candidate", True, reason="rows are not candidates of the query that ranks them"),
    unique("ranked_once", "id", reason="ids stand twice"),
    unique("unique_ranks", "query_id", "rank", reason="a query gives a rank twice"),
    equal("gapless_ranks", "rank", "place", reason="the ranks within a query have gaps"),
    allow("reply_recorded", "has_reply", True, reason="ranks have no reply that said so"),
)


def validate_rankings(
    rankings: pa.Table, queries: pa.Table, *, max_abstained: float, abstained: int | None = None
) -> Verdict:
    """Validate a table of the schema RANKINGS against the queries that were to be ranked.

    `max_abstained` is the share of queries that may have no rank. `abstained`, where it is known, is how many answers
    were missing by the ranker's count: no more queries may be without a rank.
    Failing rules are for Verdict.require to raise. Raises ContractError where Great Expectations and the cheap check
    disagree.
    """

    def tables() -> Iterator[FactTable]:
        yield from rank_tables(rankings, queries)
        query_ids = np.array(list(dict.fromkeys(queries["query_id"].to_pylist())), dtype=np.int64)
        unranked = ~np.isin(query_ids, rankings["query_id"].to_numpy())
        most = min(1.0, max_abstained + 1e-9)  # a share computed otherwise may differ in its last bit
        rules = [share("some_queries_ranked", "unranked", 1, strict=True), share("abstained_share", "unranked", most)]
        rules += [] if abstained is None else [total("none_lost", "unranked", abstained)]
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
