"""Data quality at the three boundaries, by Great Expectations: pool in, embeddings and rankings out.

Each judgement takes a table and gives a Verdict (selectllm.quality.verdicts). Great Expectations sees narrow frames of facts and
no texts, and is imported when a first table is judged. Cheap checks that always run are in `contracts`.
"""

from selectllm.quality.data_docs import data_docs
from selectllm.quality.embedding_rules import judge_embeddings
from selectllm.quality.own_expectations import Suite, load_suite, suite_digest
from selectllm.quality.pool_rules import CODE_VERSION, judge_pool
from selectllm.quality.ranking_rules import judge_rankings

__all__ = [
    "CODE_VERSION",
    "Suite",
    "data_docs",
    "judge_embeddings",
    "judge_pool",
    "judge_rankings",
    "load_suite",
    "suite_digest",
]
