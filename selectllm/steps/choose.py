"""The last step: exactly as many rows as the budget."""

import logging
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from selectllm import quality, selection
from selectllm.errors import StoreError
from selectllm.ranking.near_repeats import count_near_repeated_rows
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.exclude import excluded_ids
from selectllm.steps.spread import spread, spread_settings
from selectllm.steps.stratify import check_enough, strata_of
from selectllm.store import Artifact
from selectllm.store.history import Commit, Conflict, History
from selectllm.store.tables import in_order

CODE_VERSION: Final = 2
"""Raise it when the same preferences are to give another selection."""

log = logging.getLogger(__name__)


def choose(
    context: Context,
    pool: StepResult,
    preferences: StepResult,
    excluded: StepResult | None,
    embeddings: StepResult | None = None,
    strata: StepResult | None = None,
) -> StepResult | None:
    """Choose exactly `budget` rows; with a history, the run's slot is filled with them before anybody sees them.

    Parameters: `embeddings`, where rows that say the same must not all be chosen. What is passed over then becomes an
    artifact of its own, of kind `near_duplicates`, whose key stands in the selection's facts. `strata`, where values of
    a column have quotas.
    None when another run of the history has just chosen some of these rows: the caller has to prefer others.
    """
    settings = context.settings
    inputs = {"pool": pool, "preferences": preferences}
    inputs |= {result.kind: result for result in (excluded, embeddings, strata) if result}
    result = _chosen(context, inputs)
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


def _chosen(context: Context, inputs: Mapping[str, StepResult]) -> StepResult:
    """Choose from the results of earlier steps, by kind, or load what was chosen from them before."""
    store, settings = context.store, context.settings
    decisive: dict[str, Any] = {"budget": settings.budget}
    if "embeddings" in inputs:
        decisive |= spread_settings(settings)
    if settings.history:  # what a slot holds must stay: other ranks under the same key make a selection of their own
        decisive["made_of"] = {name: result.manifest.sha256 for name, result in inputs.items()}
    entry = CacheEntry(store, "selection", CODE_VERSION, inputs, decisive)
    near_duplicates = CacheEntry(store, "near_duplicates", CODE_VERSION, inputs, decisive)
    passes_over = "near_duplicate" in decisive
    if (result := entry.load()) and (not passes_over or near_duplicates.load()):
        return result
    ids, preferences = excluded_ids(context, inputs.get("excluded")), inputs["preferences"]
    candidates = in_order(selection.without(preferences.table(store), ids), ("place", "ascending"))
    divided = inputs.get("strata")
    strata = strata_of(candidates, divided.table(store), divided.facts) if divided else None
    facts: dict[str, Any] = {"budget": settings.budget, "selected": settings.budget, "excluded": len(ids)}
    if "embeddings" in inputs and len(candidates) >= settings.budget:
        found = spread(candidates, inputs["embeddings"].table(store), settings, strata)
        candidates, facts = found.chosen, facts | spread_settings(settings)
        if passes_over:
            facts |= {"passed_over": len(found.near_duplicates), "near_duplicates": near_duplicates.artifact.key}
            near_duplicates.save(found.near_duplicates, {"passed_over": len(found.near_duplicates)})
    elif strata:
        candidates = candidates.filter(pa.array(strata.is_among_first()))  # exactly the budget, if none is short
    if divided:
        check_enough(strata_of(candidates, divided.table(store), divided.facts), divided.facts, settings.strategy)
    chosen = selection.choose(inputs["pool"].table(store), candidates, settings.budget, preferences.facts["strategy"])
    quality.check_selection(chosen, settings.budget)
    return entry.save(chosen, facts | {"near_repeats": count_near_repeated_rows(chosen)})


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
