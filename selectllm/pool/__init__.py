"""Reads a pool of instructions from a file of any usual format into one table, and says why rows were left out.

`partition(parse(fetch(location), columns), reasons)` is the whole way; `reasons` come from selectllm.quality.
"""

from selectllm.pool.formats import file_format
from selectllm.pool.layouts import Columns
from selectllm.pool.named_ids import named_ids
from selectllm.pool.parse import ParsedPool, parse, read
from selectllm.pool.partition import KeptRows, LeftOutRows, Pool, first_reasons, partition, refusal
from selectllm.pool.parts import PART_ROWS
from selectllm.pool.rows import row_id
from selectllm.pool.source import PoolFile, fetch

__all__ = [
    "PART_ROWS",
    "Columns",
    "KeptRows",
    "LeftOutRows",
    "ParsedPool",
    "Pool",
    "PoolFile",
    "fetch",
    "file_format",
    "first_reasons",
    "named_ids",
    "parse",
    "partition",
    "read",
    "refusal",
    "row_id",
]
