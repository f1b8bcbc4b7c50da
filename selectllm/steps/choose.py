"""The last step: exactly as many rows as the budget."""

import logging
from typing import Any, Final

from selectllm import selection
from selectllm.errors import RunError, StoreError
from selectllm.quality import checks
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.exclude import chosen_after, exclude, open_to_choice
from selectllm.store import Artifact, Store
from selectllm.store.history import Commit, Conflict, History

CODE_VERSION: Final = 1
"""Raise it when the same ranks are to give another selection."""

log = logging.getLogger(__name__)


def choose(
    store: Store,
    run: RunSettings,
    pool: StepResult,
    ranks: StepResult,
    played: StepResult | None,
    excluded: StepResult | None,
) -> StepResult:
    """Choose exactly `budget` rows; with a history, the run's slot is filled with them before anybody sees them."""
    if run.history is None or run.slot is None:
        return _chosen(store, run, pool, ranks, played, excluded)
    history = History(store, run.history)
    while True:
        made = _chosen(store, run, pool, ranks, played, excluded)
        ids = tuple(store.read(made.artifact)["id"].to_pylist())
        mine = Commit(
            slot=run.slot,
            selection=made.artifact.key,
            budget=run.budget,
            after=chosen_after(store, excluded),
            ids=ids,
        )
        try:
            kept = history.commit(mine)
        except Conflict:
            log.warning("another run of the history %s has chosen some of these rows: choosing again", run.history)
            excluded = exclude(store, run, pool)
            _check_decided(store, run, ranks, played, excluded)
            continue
        return made if kept.ids == ids else _kept(store, run, kept, made)


def _check_decided(
    store: Store, run: RunSettings, ranks: StepResult, played: StepResult | None, excluded: StepResult | None
) -> None:
    """Raise RunError where what is ranked and ordered so far does not say which rows to choose instead."""
    rankings = open_to_choice(store, store.read(ranks.artifact), excluded)
    standings = store.read(played.artifact) if played else None
    if not selection.is_decided(rankings, run.budget, standings):
        raise RunError(
            f"another run of the history {run.history!r} has chosen some of these rows meanwhile, and others have yet "
            "to be ranked: run again, which asks for that at most"
        )


def _chosen(
    store: Store,
    run: RunSettings,
    pool: StepResult,
    ranks: StepResult,
    played: StepResult | None,
    excluded: StepResult | None,
) -> StepResult:
    inputs = {"pool": pool, "rankings": ranks, "tournament": played, "excluded": excluded}
    given = {name: made for name, made in inputs.items() if made is not None}
    settings: dict[str, Any] = {"budget": run.budget}
    if run.history:  # what a slot holds must stay: other ranks under the same key make a selection of their own
        settings["made_of"] = {name: made.sha256 for name, made in given.items()}
    slot = CacheEntry(store, run, "selection", CODE_VERSION, given, settings)
    if made := slot.found():
        return made
    rankings = open_to_choice(store, store.read(ranks.artifact), excluded)
    standings = store.read(played.artifact) if played else None
    chosen = selection.choose(store.read(pool.artifact), rankings, run.budget, standings)
    checks.check_selection(chosen, run.budget)
    count = store.read(excluded.artifact).num_rows if excluded else 0
    return slot.keep(chosen, {"budget": run.budget, "selected": len(chosen), "excluded": count})


def _kept(store: Store, run: RunSettings, kept: Commit, made: StepResult) -> StepResult:
    """What the slot held before: it stands, whatever has become of the pool or the settings since."""
    artifact = Artifact(kind="selection", key=kept.selection)
    manifest = store.manifest(artifact)
    if manifest is None or store.integrity_error(manifest) or tuple(store.read(artifact)["id"].to_pylist()) != kept.ids:
        raise StoreError(
            f"the slot {run.slot!r} of the history {run.history!r} is filled, and its selection is no longer in the "
            f"store: its ids are in the history's file. Name another --slot to choose other rows"
        )
    log.warning("the slot %s of the history %s was filled before: its rows stand", run.slot, run.history)
    return made.model_copy(update={"artifact": artifact, "sha256": manifest.sha256, "cached": True})
