"""Reads pools as a run without validation does."""

from selectllm import pool
from selectllm.pool import Columns, Pool


def read_pool(location: str, columns: Columns | None = None) -> Pool:
    """The pool at a path or URL; raises PoolError where no row of it is usable."""
    result = pool.partition(pool.parse(pool.fetch(location), columns or Columns()), {})
    if result.refused:
        raise pool.refusal(location, result.refused)
    return result
