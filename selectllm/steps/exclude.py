"""What this run may not choose: rows that files name, and rows that earlier runs of its history chose."""

import logging
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm import pool as pools
from selectllm.errors import UsageError
from selectllm.paths import redact_url
from selectllm.schemas import EXCLUDED
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.store import Store, digest
from selectllm.store.history import Commit, History, chosen_before

CODE_VERSION: Final = 1
"""Raise it when the same rows are to be excluded with other words."""

log = logging.getLogger(__name__)


def exclude(store: Store, run: RunSettings, pool: StepResult) -> StepResult | None:
    """Gather the pool's rows that may not be chosen; None where nothing is excluded.

    Only the choosing looks at them: the pool, its queries and their ranks stay as they are.
    Raises UsageError when fewer rows than the budget are left, or when the run's slot was filled with another budget.
    """
    if not run.exclude and run.history is None:
        return None
    found, after = excluded_rows(store, run, store.read(pool.artifact)["id"].to_pylist())
    if not found:
        return None
    slot = CacheEntry(store, run, "excluded", CODE_VERSION, {"pool": pool}, {"rows": digest(found), "after": after})
    if made := slot.found():
        return made
    columns = [pa.array(values, field.type) for values, field in zip(zip(*found, strict=True), EXCLUDED, strict=True)]
    return slot.keep(pa.table(columns, schema=EXCLUDED), {"excluded": len(found)})


def excluded_rows(store: Store, run: RunSettings, ids: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Of a pool's ids those that are excluded, each with its reason, and the slots of the history that were looked at.

    Raises UsageError as `exclude` does.
    """
    before = _before(store, run)
    reasons = _named(run, ids) | {id: f"chosen by {run.history}, slot {one.slot}" for one in before for id in one.ids}
    found = [(id, reasons[id]) for id in ids if id in reasons]
    if found and run.budget > len(ids) - len(found):
        raise UsageError(
            f"the budget is {run.budget:,}, but {len(found):,} of the pool's {len(ids):,} usable rows are excluded: "
            f"choose at most {len(ids) - len(found):,}"
        )
    return found, [one.slot for one in before]


def chosen_after(store: Store, excluded: StepResult | None) -> tuple[str, ...]:
    """The slots of the history whose rows were excluded."""
    manifest = store.manifest(excluded.artifact) if excluded else None
    return tuple(manifest.settings["after"]) if manifest else ()


def open_to_choice(store: Store, rankings: pa.Table, excluded: StepResult | None) -> pa.Table:
    """The ranked rows that may be chosen."""
    if excluded is None:
        return rankings
    ids = store.read(excluded.artifact)["id"].combine_chunks()
    return rankings.filter(pc.invert(pc.is_in(rankings["id"], value_set=ids)))


def _named(run: RunSettings, ids: Sequence[str]) -> dict[str, str]:
    columns = pools.Columns(**run.columns.model_dump())
    reasons: dict[str, str] = {}
    for file in reversed(run.exclude):
        named = pools.named_ids(file, columns)
        if named.isdisjoint(ids):
            log.warning("none of the rows that %s names is in the pool: it excludes nothing", redact_url(file))
        reasons |= {id: f"named by {redact_url(file)}" for id in named}
    return reasons


def _before(store: Store, run: RunSettings) -> Sequence[Commit]:
    """The earlier slots of the run's history."""
    if run.history is None:
        return []
    commits = History(store, run.history).commits()
    if (mine := commits.get(run.slot or "")) and mine.budget != run.budget:
        raise UsageError(
            f"the slot {run.slot!r} of the history {run.history!r} holds {mine.budget:,} rows, and the budget is "
            f"{run.budget:,}: name another --slot"
        )
    return chosen_before(commits, run.slot or "")
