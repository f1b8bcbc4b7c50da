"""What this run may not choose: rows that files name, and rows that earlier runs of its history chose."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.paths import redact_url
from selectllm.pool import named_ids
from selectllm.schemas import EXCLUDED
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.keep_away import reasons_of
from selectllm.steps.read_pool import columns_of
from selectllm.store import Artifact, Store, digest
from selectllm.store.history import Commit, History, chosen_before

CODE_VERSION: Final = 1
"""Raise it when the same rows are to be excluded for other reasons."""

WHOLE_CHATS: Final = 3
"""The code version of pools from which on the id of a chat covers all turns up to the one that is asked."""

log = logging.getLogger(__name__)


def exclude(context: Context, pool: StepResult, too_near: StepResult | None = None) -> StepResult | None:
    """Gather the pool's rows that may not be chosen, to which only the choice looks; None where nothing is excluded.

    Parameters: `too_near`, the result of `keep_away`, once it is known.
    Raises UsageError when fewer rows than the budget are left, or when the run's slot was filled with another budget.
    """
    store, settings = context.store, context.settings
    if not settings.exclude and settings.history is None and too_near is None:
        return None
    ids = pool.ids(store).to_pylist()
    rows, after = excluded_rows(store, settings, ids, reasons_of(context, too_near))
    if not rows:
        return None
    inputs = {"pool": pool} | ({"too_near": too_near} if too_near else {})
    entry = CacheEntry(store, "excluded", CODE_VERSION, inputs, {"rows": digest(rows), "after": after})
    if result := entry.load():
        return result
    return entry.save(pa.table(list(zip(*rows, strict=True)), schema=EXCLUDED), {"excluded": len(rows)})


def excluded_rows(
    store: Store, settings: RunSettings, ids: Sequence[str], too_near: Mapping[str, str] | None = None
) -> tuple[list[tuple[str, str]], list[str]]:
    """Of a pool's ids those that are excluded, each with its reason, and the slots of the history that were read.

    Parameters: `too_near`, the reasons of rows that are too near to tests.
    """
    commits = _earlier_commits(store, settings)
    if any(_is_of_first_turns(store, commit) and not set(commit.ids) <= set(ids) for commit in commits):
        raise UsageError(
            f"the history {settings.history!r} holds chats that an earlier version knew by their first user turn "
            "alone, and might choose again: begin a new --history, and name the earlier selections with --exclude"
        )
    reasons = dict(too_near or {}) | _named_by_files(settings, ids)
    reasons |= {id: f"chosen by {settings.history}, slot {commit.slot}" for commit in commits for id in commit.ids}
    rows = [(id, reasons[id]) for id in ids if id in reasons]
    left = len(ids) - len(rows)
    if rows and settings.budget > left:
        raise UsageError(
            f"the budget is {settings.budget:,}, but {len(rows):,} of the pool's {len(ids):,} usable rows are "
            f"excluded: choose at most {left:,}"
        )
    return rows, [commit.slot for commit in commits]


def excluded_ids(context: Context, excluded: StepResult | None) -> set[str]:
    """The ids that may not be chosen."""
    return set(excluded.table(context.store)["id"].to_pylist()) if excluded else set()


def _named_by_files(settings: RunSettings, ids: Sequence[str]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for file in reversed(settings.exclude):
        named = named_ids(file, columns_of(settings))
        if named.isdisjoint(ids):
            log.warning("none of the rows that %s names is in the pool: it excludes nothing", redact_url(file))
        reasons |= {id: f"named by {redact_url(file)}" for id in named}
    return reasons


def _is_of_first_turns(store: Store, commit: Commit) -> bool:
    """Whether a slot's rows are chats whose ids do not cover what stands before the turn that is asked."""
    selection = store.manifest(Artifact(kind="selection", key=commit.selection))
    pool = store.manifest(Artifact(kind="pool", key=selection.made_from["pool"])) if selection else None
    return pool is not None and pool.code_version < WHOLE_CHATS and pool.facts.get("layout") == "messages"


def _earlier_commits(store: Store, settings: RunSettings) -> Sequence[Commit]:
    """The earlier slots of the run's history."""
    if settings.history is None:
        return []
    commits = History(store, settings.history).commits()
    own = commits.get(settings.slot or "")
    if own and own.budget != settings.budget:
        raise UsageError(
            f"the slot {settings.slot!r} of the history {settings.history!r} holds {own.budget:,} rows, and the budget "
            f"is {settings.budget:,}: name another --slot"
        )
    return chosen_before(commits, settings.slot or "")
