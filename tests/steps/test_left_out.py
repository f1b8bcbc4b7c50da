"""A run that ends because of its pool says why rows were left out, and writes them to the output folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from selectllm import plan_run, select
from selectllm.errors import QualityError, UsageError
from selectllm.settings import RunSettings

MakeRun = Callable[..., RunSettings]
ROWS = [{"instruction": "Name a river."}, {}, {"instruction": "Name a river."}, {"instruction": "Name a lake."}]
REASONS = ["no instruction", "duplicate of row 1"]


def write(path: Path, rows: list[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("function", [select, plan_run])
def test_a_budget_beyond_the_pool_tells_and_writes_why_rows_were_left_out(
    function: Callable[[RunSettings], object], make_run: MakeRun, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = make_run(budget=3, pool=write(tmp_path / "pool.jsonl", ROWS), strategy="longest", out=str(out))
    for _ in range(2):  # made, and then found in the store
        with pytest.raises(UsageError) as raised:
            function(run)
        assert str(raised.value) == (
            "the budget is 3, but the pool holds 2 usable rows: choose at most as many. 4 rows were read, "
            "1 quarantined, 1 repeated: row 2: no instruction; row 3: duplicate of row 1. "
            f"All are in {out}/quarantine.parquet"
        )
        assert pq.read_table(out / "quarantine.parquet")["reason"].to_pylist() == REASONS


def test_a_rule_about_the_table_that_stops_a_run_names_the_reasons_of_rows(make_run: MakeRun, tmp_path: Path) -> None:
    turns = [{"from": "bot", "value": "Name a river."}, {"from": "person", "value": "The Rhine."}]
    rows = [{"conversations": turns}] * 3 + [{"conversations": [{"from": "human", "value": "Name a lake."}]}]
    pool = write(tmp_path / "pool.jsonl", rows)
    run = make_run(budget=1, pool=pool, strategy="longest", quality={})
    with pytest.raises(QualityError, match=r"near_empty_share .*: row 1: no user turn: roles are bot, person; row 2"):
        select(run)
