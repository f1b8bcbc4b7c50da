"""The first step: a file becomes a table of distinct, usable rows."""

from typing import Final

from selectllm import pool
from selectllm.errors import PoolError, UsageError
from selectllm.quality import checks
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult, rows
from selectllm.steps.validate import judged_by, keep_verdict, kept_verdict, pool_judge
from selectllm.store import Store

CODE_VERSION: Final = 1
"""Raise it when the same file is to give another table: everything after it is made anew."""


def read_pool(store: Store, run: RunSettings) -> StepResult:
    """Read the pool's file; its bad rows and repeats become an artifact of their own, of kind `quarantine`.

    A pool without a usable row is kept as well, empty, for its validation to refuse.
    Raises PoolError, and UsageError when the budget is larger than the pool.
    """
    store.remove_stale_temp_files()
    digest = pool.digest(run.pool)
    settings = {"format": pool.file_format(run.pool), "columns": run.columns.model_dump(), **judged_by(run)}
    quarantine = CacheEntry(store, run, "quarantine", CODE_VERSION, {"file": digest}, settings)
    kept = CacheEntry(store, run, "pool", CODE_VERSION, {"file": digest}, settings)
    is_judged = run.quality.no_validate or kept_verdict(store, "pool", kept.target.key) is not None
    made = kept.found() if is_judged and quarantine.found() else None
    if made is None:
        found = pool.read(run.pool, pool.Columns(**run.columns.model_dump()), pool_judge(run))
        if pool.digest(run.pool) != digest:
            raise PoolError(f"{run.pool} was changed while it was read: run again when it is complete")
        checks.check_pool(found.table)
        facts = {
            "rows_read": found.rows_read,
            "quarantined": found.quarantined,
            "duplicates": found.duplicates,
            "kept": found.table.num_rows,
            "layout": found.layout,
            "quarantine": quarantine.target.key,
            "refused": found.refused,
        }
        if found.verdict:
            keep_verdict(store, kept.target.key, found.verdict)
        quarantine.keep(found.quarantine, facts)
        made = kept.keep(found.table, facts)
    if usable := rows(store, made):
        check_budget(run.budget, usable)
    return made


def check_budget(budget: int, usable: int) -> None:
    """Raise UsageError when the budget is larger than the pool."""
    if budget > usable:
        raise UsageError(f"the budget is {budget:,}, but the pool holds {usable:,} usable rows: choose at most as many")
