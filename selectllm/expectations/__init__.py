"""Data quality at the three boundaries, by Great Expectations: pool in, embeddings and rankings out.

Each judgement takes a table and gives a Verdict (selectllm.verdict). Great Expectations sees narrow frames of facts and
no texts, and is imported when a first table is judged. Cheap checks that always run are in `contracts`.
"""

from selectllm.expectations.docs import data_docs
from selectllm.expectations.embeddings import judge_embeddings
from selectllm.expectations.pool import RECIPE, judge_pool
from selectllm.expectations.rankings import judge_rankings
from selectllm.expectations.suite import Suite, load_suite, suite_digest

__all__ = [
    "RECIPE",
    "Suite",
    "data_docs",
    "judge_embeddings",
    "judge_pool",
    "judge_rankings",
    "load_suite",
    "suite_digest",
]
