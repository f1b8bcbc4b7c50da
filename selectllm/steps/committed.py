"""A slot that an earlier run has filled: its rows were chosen then, and neither pool nor model is needed for them."""

import logging

from selectllm import pool as pools
from selectllm.errors import UsageError
from selectllm.llm import ModelInfo
from selectllm.llm.model import Quality
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.store import Artifact, Manifest, Store
from selectllm.store.history import History

log = logging.getLogger(__name__)


def find_committed(store: Store, run: RunSettings) -> tuple[ModelInfo, list[StepResult | None]] | None:
    """The model and the steps of the selection that the run's slot holds.

    None where it holds none yet, one of another budget, or one of which anything is gone or damaged: then the run goes
    its usual way, which tells what is wrong.
    """
    commit = History(store, run.history).commits().get(run.slot or "") if run.history else None
    if commit is None or commit.budget != run.budget:
        return None
    steps: dict[str, Manifest] = {}
    waiting = {"selection": commit.selection}
    while waiting:
        kind, key = waiting.popitem()
        manifest = store.manifest(Artifact(kind=kind, key=key))
        if manifest is None or store.integrity_error(manifest):
            return None
        steps[kind] = manifest
        # Of each kind the nearest: it holds all that earlier blocks of ranks and generations of queries do.
        nearer = steps.keys() | waiting.keys()
        waiting |= {kind: manifest.made_from[kind] for kind in manifest.inputs if kind not in nearer}
    if not store.is_intact(Artifact(kind="quarantine", key=steps["pool"].facts["quarantine"])):
        return None
    store.remove_stale_temp_files()
    log.log(
        logging.INFO if _is_pool_of(run, steps["pool"]) else logging.WARNING,
        *("the slot %s of the history %s was filled before: its rows stand", run.slot, run.history),
    )
    return _card(run, steps["rankings"]), [_made(one) for one in steps.values()]


def _is_pool_of(run: RunSettings, pool: Manifest) -> bool:
    """Whether the slot's rows come from the file that the run names, as it is now."""
    try:
        return pools.digest(run.pool) == pool.made_from["file"]
    except UsageError:
        return False


def _made(manifest: Manifest) -> StepResult:
    return StepResult(
        artifact=Artifact(kind=manifest.kind, key=manifest.key), sha256=manifest.sha256, cached=True, seconds=0
    )


def _card(run: RunSettings, rankings: Manifest) -> ModelInfo:
    """Who ranked; which version of a server it was is told in the record of the run that asked."""
    settings = rankings.settings
    kind = run.selector.partition(":")[0]
    quality: Quality = "scripted" if kind == "scripted" else "demo" if run.selector == "embedded" else "model"
    return ModelInfo(run.selector, settings["name"], settings["model"], "unknown", quality, settings["mode"])
