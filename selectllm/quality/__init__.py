"""Data quality at the three boundaries: pool in, embeddings and rankings out.

A rule is declared once (selectllm.quality.rules). Cheap checks always hold tables to it: the `check_...` functions. In
a run that validates, Great Expectations does so as well and gives a Verdict: the `validate_...` functions. It sees
narrow tables of facts and no texts, and is imported when a first table is validated.
"""

from selectllm.quality.checks import (
    check_embedding_parts,
    check_embeddings,
    check_pool_parts,
    check_pool_table,
    check_preferences,
    check_queries,
    check_rankings,
    check_selection,
    check_shard,
    check_tournament,
    check_vector_facts,
    facts_about,
)
from selectllm.quality.data_docs import write_data_docs
from selectllm.quality.output_rules import (
    ALIKE,
    UNKNOWN,
    validate_embedding_batches,
    validate_embeddings,
    validate_rankings,
)
from selectllm.quality.own_expectations import Suite, load_suite, suite_digest
from selectllm.quality.pool_rules import CODE_VERSION, PoolCheck, check_pool, validate_pool
from selectllm.quality.vector_facts import VectorFacts, facts_from_digests, join_facts
from selectllm.quality.verdicts import Boundary, Verdict

__all__ = [
    "ALIKE",
    "CODE_VERSION",
    "UNKNOWN",
    "Boundary",
    "PoolCheck",
    "Suite",
    "VectorFacts",
    "Verdict",
    "check_embedding_parts",
    "check_embeddings",
    "check_pool",
    "check_pool_parts",
    "check_pool_table",
    "check_preferences",
    "check_queries",
    "check_rankings",
    "check_selection",
    "check_shard",
    "check_tournament",
    "check_vector_facts",
    "facts_about",
    "facts_from_digests",
    "join_facts",
    "load_suite",
    "suite_digest",
    "validate_embedding_batches",
    "validate_embeddings",
    "validate_pool",
    "validate_rankings",
    "write_data_docs",
]
