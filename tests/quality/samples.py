"""Pools, suites, embeddings and rankings for the tests of validation, and helpers to read verdicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from selectllm import pool, quality
from selectllm.pool import Columns, Pool
from selectllm.quality import Suite, Verdict, load_suite
from selectllm.schemas import QUERIES, RANKINGS, embeddings

IDS = [f"{n:032x}" for n in range(30)]
ROWS = pa.table({"id": IDS})
UNIT = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)

HOMES = pa.table(
    [pa.array([n // 5 for n in range(30)], pa.int64()), pa.array([0] * 30, pa.int32()), pa.array(IDS)], schema=QUERIES
)
GOOD = [
    {"query_id": n // 5, "rank": n % 5 + 1, "id": IDS[n], "score": None, "reply": "r"} for n in range(30) if n % 5 < 3
]


def failed(verdict: Verdict) -> dict[str, int]:
    return {finding.rule: finding.count for finding in verdict.failures}


def finding_of(verdict: Verdict, rule: str) -> Any:
    return next(finding for finding in verdict.findings if finding.rule == rule)


def read_and_validate(location: str | Path, suite: Suite | None = None) -> tuple[Pool, Verdict]:
    """The pool without the rows that validation quarantines, and its verdict."""
    parsed = pool.parse(pool.fetch(str(location)), Columns())
    check = quality.check_pool(parsed, suite)
    verdict = quality.validate_pool(check)
    assert check.fails == (not verdict.success)
    return pool.partition(parsed, check.reasons), verdict


def read_and_check(location: str | Path) -> tuple[Pool, Verdict]:
    """Like `read_and_validate`, but only with the fast form of the rules."""
    parsed = pool.parse(pool.fetch(str(location)), Columns())
    check = quality.check_pool(parsed)
    findings = [result.finding for table in check.tables for result in table.check()]
    return pool.partition(parsed, check.reasons), Verdict.of("pool", findings)


def verdict_of(location: str | Path, suite: Suite | None = None) -> Verdict:
    return read_and_validate(location, suite)[1]


def write_rows(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def expectation(type_: str, severity: str | None = None, /, **kwargs: Any) -> dict[str, Any]:
    """An entry of a suite."""
    return {"type": type_, "kwargs": kwargs} | ({"severity": severity} if severity else {})


def write_suite(folder: Path, *entries: Any, name: str = "suite.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"expectations": entries}), encoding="utf-8")
    return path


def suite_of(folder: Path, *entries: Any) -> Suite:
    return load_suite(write_suite(folder, *entries))


def vectors_of(vectors: np.ndarray, ids: list[str] | None = None) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1])
    return pa.table([pa.array(IDS if ids is None else ids), flat], schema=embeddings(vectors.shape[1]))


def changed(row: int, value: Any) -> np.ndarray:
    """Valid vectors with one changed vector."""
    vectors = UNIT.copy()
    vectors[row] = value
    return vectors


def ranks(*changes: tuple[int, str, Any], drop: int = 0, more: tuple[dict[str, Any], ...] = ()) -> pa.Table:
    """Good ranks with changes: of a row's column to a value, without the last `drop` rows, with `more` rows."""
    rows = [dict(row) for row in GOOD]
    for place, name, value in changes:
        rows[place][name] = value
    return pa.Table.from_pylist([*rows[: len(rows) - drop], *more], schema=RANKINGS)
