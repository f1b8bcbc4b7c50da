from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.pool import Pool
from selectllm.quality import Verdict
from tests.quality.samples import read_and_validate, suite_of, write_rows


@pytest.fixture
def validate_by(tmp_path: Path) -> Callable[..., tuple[Pool, Verdict]]:
    """Reads a pool of 30 rows, a repeat and a row without letters, and validates it with user expectations."""
    rows = [
        {"instruction": f"Task number {n}", "kind": "abc"[n % 3], "n": n, "tags": ["x"], "deep": {"a": None}}
        for n in range(30)
    ]
    path = write_rows(tmp_path / "pool.jsonl", *rows, rows[0], {"instruction": "?", "kind": "a"})

    def validate_by(*entries: Any) -> tuple[Pool, Verdict]:
        return read_and_validate(path, suite_of(tmp_path, *entries))

    return validate_by
