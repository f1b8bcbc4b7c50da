"""A slot of a history that an earlier run has filled: its rows stand, and neither pool nor model is needed for them."""

import logging
from dataclasses import replace
from typing import Final

from selectllm.errors import UsageError
from selectllm.llm.model import Kind, ModelInfo
from selectllm.pool import fetch
from selectllm.ranking.thinking import WAYS
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context
from selectllm.store import Artifact, Manifest, Store
from selectllm.store.history import History

FORMER_NAMES: Final = {
    "faults": "errors_by_kind",
    "silent": "abstained_questions",
    "queued": "queued_seconds",
    "concordances": "agreement_by_question",
    "picks": "first_picks",
    "blocks": "pages",
}
"""What the facts of rankings and tournaments of code version 1 are called today."""

log = logging.getLogger(__name__)


def find_committed(context: Context) -> bool:
    """Whether the run's slot is filled; if so, the steps and the model of its selection are noted as this run's.

    False, too, for another budget, or where anything is gone or damaged: the usual way of a run says what is wrong.
    """
    store, settings = context.store, context.settings
    commit = History(store, settings.history).commits().get(settings.slot or "") if settings.history else None
    if commit is None or commit.budget != settings.budget:
        return False
    manifests = _made_from(store, commit.selection)
    if manifests is None:
        return False
    store.remove_stale_temp_files()
    log.log(
        logging.INFO if _is_pool_of(settings, manifests["pool"]) else logging.WARNING,
        *("the slot %s of the history %s was filled before: its rows stand", settings.slot, settings.history),
    )
    if asked := manifests.get("rankings") or manifests.get("row_ratings"):
        context.log.model = _model_info(settings, asked)
    context.log.results += [StepResult(manifest=manifest, cached=True) for manifest in manifests.values()]
    return True


def _made_from(store: Store, selection: str) -> dict[str, Manifest] | None:
    """The manifests of a selection and of all that it was made from, by kind; None where anything is not intact.

    What facts alone name must be intact, too: the quarantine, and the near-duplicates that were passed over.
    """
    manifests: dict[str, Manifest] = {}
    pending = {"selection": selection}
    while pending:
        kind, key = pending.popitem()
        manifest = store.manifest(Artifact(kind=kind, key=key))
        if manifest is None or store.integrity_error(manifest):
            return None
        facts = {FORMER_NAMES.get(name, name): value for name, value in manifest.facts.items()}
        manifests[kind] = manifest.model_copy(update={"facts": facts})
        # Of each kind the nearest: it holds all that earlier pages of ranks and generations of queries do.
        nearer = manifests.keys() | pending.keys()
        pending |= {kind: manifest.made_from[kind] for kind in manifest.inputs if kind not in nearer}
    named = [Artifact(kind="quarantine", key=manifests["pool"].facts["quarantine"])]
    if passed_over := manifests["selection"].facts.get("near_duplicates"):
        named.append(Artifact(kind="near_duplicates", key=passed_over))
    return manifests if all(map(store.is_intact, named)) else None


def _is_pool_of(settings: RunSettings, pool: Manifest) -> bool:
    """Whether the slot's rows come from the file that the settings name, as it is now."""
    try:
        return fetch(*settings.pools).digest == pool.made_from["file"]
    except UsageError:
        return False


def _model_info(settings: RunSettings, asked: Manifest) -> ModelInfo:
    """Who ranked, or rated; the record of the run that asked says which version of a server it was."""
    provider = settings.selector.partition(":")[0]
    kind: Kind = "scripted" if provider == "scripted" else "demo" if settings.selector == "embedded" else "model"
    facts = asked.settings
    known = ModelInfo(settings.selector, facts["name"], facts["model"], "unknown", kind, facts["mode"])
    return replace(known, think=WAYS[facts["think"]])
