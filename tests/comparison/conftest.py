"""What the tests of comparisons share: settings over a small pool, and a look at what was measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.comparison.settings import ComparisonSettings
from selectllm.comparison.summary import Comparison, Estimate

Make = Callable[..., ComparisonSettings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Settings of a comparison over 40 rows, of which every fourth is worth something."""
    pool = tmp_path / "pool.jsonl"
    rows = [{"instruction": f"Explain {i}" + " at length" * (i % 7), "worth": int(i % 4 == 0)} for i in range(40)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def make(**fields: Any) -> ComparisonSettings:
        defaults = {"pool": str(pool), "budgets": (8,), "strategies": ("longest",), "selectors": ("scripted:first",)}
        own = {"seeds": 3, "store": str(tmp_path / "store"), "quality": {"no_validate": True}}
        return ComparisonSettings.model_validate(defaults | own | fields)

    return make


def found(comparison: Comparison, strategy: str, measure: str) -> Estimate:
    return next(e for e in comparison.estimates if e.way[0] == strategy and e.measure == measure)
