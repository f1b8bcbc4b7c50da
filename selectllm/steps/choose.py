"""The last step: exactly as many rows as the budget."""

import logging
from typing import Any, Final

from selectllm import quality, selection
from selectllm.errors import StoreError
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.exclude import excluded_ids
from selectllm.store import Artifact
from selectllm.store.history import Commit, Conflict, History

CODE_VERSION: Final = 2
"""Raise it when the same preferences are to give another selection."""

log = logging.getLogger(__name__)


def choose(
    context: Context, pool: StepResult, preferences: StepResult, excluded: StepResult | None
) -> StepResult | None:
    """Choose exactly `budget` rows; with a history, the run's slot is filled with them before anybody sees them.

    None when another run of the history has just chosen some of these rows: the caller has to prefer others.
    """
    settings = context.settings
    result = _chosen(context, pool, preferences, excluded)
    if settings.history is None or settings.slot is None:
        return result
    slot, key, ids = settings.slot, result.artifact.key, _ids(result.table(context.store))
    after = tuple(excluded.manifest.settings["after"]) if excluded else ()
    commit = Commit(slot=slot, selection=key, budget=settings.budget, after=after, ids=ids)
    try:
        committed = History(context.store, settings.history).commit(commit)
    except Conflict:
        log.warning("another run of the history %s has chosen some of these rows: choosing again", settings.history)
        return None
    return result if committed.ids == ids else _committed_before(context, committed, result)


def _chosen(context: Context, pool: StepResult, preferences: StepResult, excluded: StepResult | None) -> StepResult:
    store, settings = context.store, context.settings
    inputs = {"pool": pool, "preferences": preferences} | ({"excluded": excluded} if excluded else {})
    decisive: dict[str, Any] = {"budget": settings.budget}
    if settings.history:  # what a slot holds must stay: other ranks under the same key make a selection of their own
        decisive["made_of"] = {name: result.manifest.sha256 for name, result in inputs.items()}
    entry = CacheEntry(store, "selection", CODE_VERSION, inputs, decisive)
    if result := entry.load():
        return result
    ids = excluded_ids(context, excluded)
    open_to_choice = selection.without(preferences.table(store), ids)
    chosen = selection.choose(pool.table(store), open_to_choice, settings.budget, preferences.facts["strategy"])
    quality.check_selection(chosen, settings.budget)
    return entry.save(chosen, {"budget": settings.budget, "selected": len(chosen), "excluded": len(ids)})


def _committed_before(context: Context, committed: Commit, result: StepResult) -> StepResult:
    """What the slot held before: it stands, whatever has become of the pool or the settings since."""
    store, settings = context.store, context.settings
    artifact = Artifact(kind="selection", key=committed.selection)
    manifest = store.manifest(artifact)
    if manifest is None or store.integrity_error(manifest) or _ids(store.read(artifact)) != committed.ids:
        raise StoreError(
            f"the slot {settings.slot!r} of the history {settings.history!r} is filled, and its selection is no longer "
            "in the store: its ids are in the history's file. Name another --slot to choose other rows"
        )
    log.warning("the slot %s of the history %s was filled before: its rows stand", settings.slot, settings.history)
    return StepResult(manifest=manifest, cached=True, seconds=result.seconds)


def _ids(table: Any) -> tuple[str, ...]:
    return tuple(table["id"].to_pylist())
