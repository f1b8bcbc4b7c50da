"""What the tests of exports share: runs to export, and rows as they must come out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from selectllm import select
from selectllm.report.result import Result
from selectllm.settings import RunSettings

MakeRun = Callable[..., RunSettings]


def chosen_from(rows: Sequence[Mapping[str, Any]], make_run: MakeRun, tmp_path: Path, **fields: Any) -> Result:
    """The result of a run that chooses all rows of a pool, in an order drawn at random."""
    pool = tmp_path / "given.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return select(make_run(pool=str(pool), budget=len(rows), strategy="random", **fields))


def write_json(path: Path, value: object) -> str:
    """Write a JSON file; returns its path."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)
