"""The first step: a file becomes a table of distinct, usable rows."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from selectllm import pool, quality
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.left_out import check_budget
from selectllm.steps.validate import load_verdict, validation_settings

CODE_VERSION: Final = 5
"""Raise it when the same file is to give another table: everything after it is made anew."""


def read_pool(context: Context) -> StepResult:
    """Read the pool's file once; its bad rows and repeats become an artifact of their own, of kind `quarantine`.

    A pool without a usable row is saved as well, empty, for its validation to refuse; without validation it is refused
    at once. Raises PoolError, and UsageError when the budget is larger than the pool.
    """
    store, settings = context.store, context.settings
    store.remove_stale_temp_files()
    file = pool.fetch(*settings.pools)
    decisive = {"format": file.form, "columns": settings.columns.model_dump()}
    decisive |= validation_settings(settings)
    quarantine = CacheEntry(store, "quarantine", CODE_VERSION, {"file": file.digest}, decisive)
    entry = CacheEntry(store, "pool", CODE_VERSION, {"file": file.digest}, decisive)
    has_verdict = settings.quality.no_validate or load_verdict(store, "pool", entry.artifact.key) is not None
    result = entry.load() if has_verdict and quarantine.load() else None
    if result is None:
        rows, context.log.pool_check = usable_rows(settings, file, store.scratch)
        if rows.refused and settings.quality.no_validate:
            raise pool.refusal(settings.pools, rows.refused)
        facts = {name: getattr(rows, name) for name in ("rows_read", "quarantined", "duplicates", "layout", "refused")}
        facts |= {"kept": len(rows.kept), "quarantine": quarantine.artifact.key}
        _save(quarantine, rows.left_out, rows.left_out, facts)
        result = _save(entry, rows.kept, quality.check_pool_parts(rows.kept), facts)
    if settings.budget > result.manifest.rows > 0:
        check_budget(settings, result.manifest.rows, store.read(quarantine.artifact))
    return result


def _save(
    entry: CacheEntry, rows: pool.KeptRows | pool.LeftOutRows, parts: Iterable[pa.Table], facts: Mapping[str, Any]
) -> StepResult:
    """Save rows that come in parts; few of them stay in memory, since later steps need them, too."""
    if len(rows) > pool.PART_ROWS:
        return entry.save_stream(rows.schema, parts, facts)
    return entry.save(pa.concat_tables(parts) if len(rows) else rows.schema.empty_table(), facts)


def usable_rows(
    settings: RunSettings, file: pool.PoolFile, scratch: str | None = None
) -> tuple[pool.Pool, quality.PoolCheck | None]:
    """The usable rows of a file, and what the pool's rules say of all its rows, where they are validated.

    Parts of a large file are put aside in the folder `scratch`, or where temporary files are.
    """
    parsed = pool.parse(file, columns_of(settings), scratch)
    if settings.quality.no_validate:
        return pool.partition(parsed, {}), None
    own = settings.quality.expectations
    check = quality.check_pool(parsed, quality.load_suite(own) if own else None)
    return pool.partition(parsed, dict(check.reasons)), check


def columns_of(settings: RunSettings) -> pool.Columns:
    """The pool's columns that the settings name."""
    return pool.Columns(**settings.columns.model_dump())
