"""The memory of a worker does not grow with the pool."""

import pytest

from benchmarks.memory import most_memory


@pytest.mark.slow
def test_embedding_a_larger_pool_needs_no_more_memory() -> None:
    assert most_memory(120) < 1.1 * most_memory(4)
