"""What rankings must hold to: each query ranks candidates of its own, without gaps, and the reply is known."""

from collections import Counter, defaultdict
from typing import Any, Final

import numpy as np
import pyarrow as pa

from selectllm.quality.columns import Expected, of_type, table_columns
from selectllm.quality.engine import validate
from selectllm.quality.numpy_forms import Values
from selectllm.quality.rules import FactTable, allow, equal, share, total, unique
from selectllm.quality.verdicts import Verdict

_EXPECTED: Final[Expected] = {
    "query_id": of_type(pa.types.is_integer),
    "rank": of_type(pa.types.is_integer),
    "id": of_type(pa.types.is_string),
    "reply": of_type(pa.types.is_string),
}

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
    findings = validate(rank_columns(rankings))
    if all(finding.success for finding in findings):
        findings += validate(rank_facts(rankings, queries))
        findings += validate(_query_facts(rankings, queries, max_abstained, abstained))
    return Verdict.of("rankings", findings)


def rank_columns(rankings: pa.Table) -> FactTable:
    """The facts about the columns that rules about ranks look at."""
    return table_columns(rankings, _EXPECTED)


def rank_facts(rankings: pa.Table, queries: pa.Table) -> FactTable:
    """The facts about each rank, and their rules."""
    ids, replies = rankings["id"].to_numpy(), rankings["reply"].to_numpy()
    query_ids, ranks = rankings["query_id"].to_numpy(), rankings["rank"].to_numpy()
    home: dict[str, int] = {}
    for id, query_id in zip(queries["id"].to_pylist(), queries["query_id"].to_pylist(), strict=True):
        home.setdefault(id, query_id)
    sizes = Counter(queries["query_id"].to_pylist())
    size = np.array([sizes[query_id] for query_id in query_ids.tolist()], dtype=np.int64)
    facts: dict[str, Any] = {
        "id": ids,
        "query_id": query_ids,
        "rank": ranks,
        "place": _places(query_ids.tolist(), ranks.tolist()),
        "is_candidate": np.array(
            [home.get(id) == query_id for id, query_id in zip(ids, query_ids, strict=True)], dtype=bool
        ),
        # the last candidate of a query that is left is ranked without a question
        "has_reply": (replies != "") | (ranks == size),
    }
    return FactTable("id", facts, _RANKS)


def _places(query_ids: list[int], ranks: list[int]) -> Values:
    """For each rank its place among the different ranks of its query, from 1."""
    by_query: dict[int, set[int]] = defaultdict(set)
    for query_id, rank in zip(query_ids, ranks, strict=True):
        by_query[query_id].add(rank)
    places = {
        (query_id, rank): place
        for query_id, different in by_query.items()
        for place, rank in enumerate(sorted(different), 1)
    }
    return np.array([places[pair] for pair in zip(query_ids, ranks, strict=True)], dtype=np.int64)


def _query_facts(rankings: pa.Table, queries: pa.Table, max_abstained: float, abstained: int | None) -> FactTable:
    """The facts about each query, and their rules."""
    query_ids = np.array(list(dict.fromkeys(queries["query_id"].to_pylist())), dtype=np.int64)
    unranked = ~np.isin(query_ids, rankings["query_id"].to_numpy())
    most = min(1.0, max_abstained + 1e-9)  # a share computed otherwise may differ in its last bit
    rules = [
        share("some_queries_ranked", "unranked", 1, strict=True),
        share("abstained_share", "unranked", most),
    ]
    if abstained is not None:
        rules.append(total("none_lost", "unranked", abstained))
    return FactTable("query_id", {"query_id": query_ids, "unranked": unranked.astype(float)}, tuple(rules))
