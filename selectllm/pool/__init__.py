"""Reads a pool of instructions from a file of any usual format into one table, and says why rows were left out."""

from selectllm.pool.exclusions import named_ids
from selectllm.pool.formats import file_format
from selectllm.pool.layouts import Columns
from selectllm.pool.read import Pool, read, refusal
from selectllm.pool.rows import row_id
from selectllm.pool.source import digest

__all__ = ["Columns", "Pool", "digest", "file_format", "named_ids", "read", "refusal", "row_id"]
