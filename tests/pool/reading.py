"""Reads pools like a run without validation."""

from selectllm import pool
from selectllm.pool import Columns, Pool


def read_pool(location: str, columns: Columns | None = None) -> Pool:
    """The pool at a path or URL; raises PoolError if no row is usable."""
    result = pool.partition(pool.parse(pool.fetch(location), columns or Columns()), {})
    if result.refused:
        raise pool.refusal([location], result.refused)
    return result
