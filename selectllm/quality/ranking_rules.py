"""What rankings must hold to: each query ranks candidates of its own, without gaps, and the reply is known."""

from typing import Final

import pandas as pd
import pyarrow as pa

from selectllm.quality.columns import Wanted, judge_columns
from selectllm.quality.engine import Rule, judge
from selectllm.quality.verdicts import Verdict

_WANTED: Final[Wanted] = {
    "query_id": pa.types.is_integer,
    "rank": pa.types.is_integer,
    "id": pa.types.is_string,
    "reply": pa.types.is_string,
}

_RANKS: Final = (
    Rule("own_candidates", "expect_column_values_to_be_in_set", {"column": "is_candidate", "value_set": [True]}),
    Rule("ranked_once", "expect_column_values_to_be_unique", {"column": "id"}),
    Rule("unique_ranks", "expect_compound_columns_to_be_unique", {"column_list": ["query_id", "rank"]}),
    Rule("gapless_ranks", "expect_column_pair_values_to_be_equal", {"column_A": "rank", "column_B": "place"}),
    Rule("reply_recorded", "expect_column_values_to_be_in_set", {"column": "has_reply", "value_set": [True]}),
)


def judge_rankings(
    rankings: pa.Table, queries: pa.Table, *, max_abstained: float, abstained: int | None = None
) -> Verdict:
    """Judge a table of the schema RANKINGS against the queries that were to be ranked.

    `max_abstained` is the share of queries that may have no rank. `abstained`, where it is known, is how many answers
    were missing by the count of those who asked: no more queries may be without a rank.
    """
    columns = judge_columns(rankings, _WANTED)
    if not columns.finding.success:
        return Verdict.of("rankings", [columns.finding])
    homes = pd.DataFrame({"query_id": queries["query_id"].to_numpy(), "id": queries["id"].to_numpy()})
    ranks = pd.DataFrame({name: rankings[name].to_numpy() for name in _WANTED})
    found = judge(_rank_facts(ranks, homes), "id", _RANKS)
    found += judge(_query_facts(ranks, homes), "query_id", _query_rules(max_abstained, abstained))
    return Verdict.of("rankings", [columns.finding, *(one.finding for one in found)])


def _query_rules(max_abstained: float, abstained: int | None) -> list[Rule]:
    mean, total = "expect_column_mean_to_be_between", "expect_column_sum_to_be_between"
    most = min(1.0, max_abstained + 1e-9)  # a share computed otherwise may differ in its last bit
    rules = [
        Rule("some_queries_ranked", mean, {"column": "unranked", "max_value": 1, "strict_max": True}, where="unranked"),
        Rule("abstained_share", mean, {"column": "unranked", "max_value": most}, where="unranked"),
    ]
    if abstained is not None:
        rules.append(Rule("none_lost", total, {"column": "unranked", "max_value": abstained}, where="unranked"))
    return rules


def _rank_facts(ranks: pd.DataFrame, homes: pd.DataFrame) -> pd.DataFrame:
    home = homes.drop_duplicates("id").set_index("id")["query_id"]
    size = ranks["query_id"].map(homes.groupby("query_id").size())
    return pd.DataFrame(
        {
            "id": ranks["id"],
            "query_id": ranks["query_id"],
            "rank": ranks["rank"],
            "place": ranks.groupby("query_id")["rank"].rank("dense").astype(int),
            "is_candidate": ranks["id"].map(home) == ranks["query_id"],
            # the last one left of a query is ranked without a question
            "has_reply": (ranks["reply"] != "") | (ranks["rank"] == size),
        }
    )


def _query_facts(ranks: pd.DataFrame, homes: pd.DataFrame) -> pd.DataFrame:
    queries = homes["query_id"].drop_duplicates()
    return pd.DataFrame({"query_id": queries, "unranked": (~queries.isin(ranks["query_id"])).astype(float)})
