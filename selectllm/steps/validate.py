"""Between the steps: a table is judged, and the verdict kept; what was judged once is not judged again.

Great Expectations is imported when there is something to judge, and not before: a run that finds all verdicts in the
store does not wait for it.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from pydantic import ValidationError

from selectllm import pool, quality
from selectllm.errors import ContractError, SelectLLMError, StoreError
from selectllm.pool.judging import Judge
from selectllm.quality.verdicts import Boundary, Verdict
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.store import Manifest, Store, digest

CODE_VERSION: Final = 1
"""Raise it when the same table is to be judged otherwise."""

Show: TypeAlias = Callable[[Verdict], None]
"""Shows a verdict on the run's page."""

log = logging.getLogger(__name__)


def unseen(verdict: Verdict) -> None:
    """Show it to nobody."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and whether it was in the store already."""

    verdict: Verdict
    cached: bool


def pool_judge(run: RunSettings) -> Judge | None:
    """What judges a pool while it is read; None where nothing is to be judged."""
    if run.quality.no_validate:
        return None
    suite = quality.load_suite(run.quality.expectations) if run.quality.expectations else None
    return partial(quality.judge_pool, suite=suite)


def judged_by(run: RunSettings) -> dict[str, str | int | None]:
    """What decides a judgement of the pool, besides the pool; empty where nothing is judged."""
    if run.quality.no_validate:
        return {}
    own = run.quality.expectations
    return {"judged": CODE_VERSION, "rules": quality.CODE_VERSION, "suite": quality.suite_digest(own) if own else None}


@contextmanager
def judging(store: Store, run: RunSettings, show: Show = unseen) -> Iterator[list[Judgement | None]]:
    """Gather a run's judgements, and see that the verdict that ends it, if one does, is told as any other.

    A contract, which is looked at before validation, has its verdict kept and shown here; and the Data Docs that are
    asked for are written of all verdicts so far.
    """
    judgements: list[Judgement | None] = []
    try:
        yield judgements
    except SelectLLMError as error:
        if error.verdict is not None and not run.quality.no_validate:
            if isinstance(error, ContractError):
                keep_verdict(store, digest(error.verdict.model_dump(mode="json")), error.verdict)
                show(error.verdict)
            _document(run, [*(one.verdict for one in judgements if one), error.verdict])
        raise


def _document(run: RunSettings, verdicts: list[Verdict]) -> None:
    """Write the Data Docs of a run that failed, which is told before any trouble with them."""
    if run.quality.data_docs is None:
        return
    try:
        quality.data_docs(run.quality.data_docs, verdicts, time.strftime("failed-%Y%m%dT%H%M%SZ", time.gmtime()))
    except StoreError as error:
        log.warning("%s", error)


def validate(
    store: Store, run: RunSettings, made: StepResult, against: StepResult | None = None, show: Show = unseen
) -> Judgement | None:
    """Judge the pool, its embeddings (`against` the pool) or its rankings (`against` the queries), as `made` is one.

    None with --no-validate. Raises QualityError where a critical expectation fails, and PoolError where no row of the
    pool is usable; the verdict is kept, and shown, all the same.
    """
    if run.quality.no_validate:
        return None
    manifest = store.manifest(made.artifact)
    assert manifest is not None
    judgement = _judgement(store, run, made, against, manifest)
    show(judgement.verdict)
    if refused := manifest.facts.get("refused"):
        raise pool.refusal(run.pool, refused, judgement.verdict)
    judgement.verdict.require()
    return judgement


def _judgement(
    store: Store, run: RunSettings, made: StepResult, against: StepResult | None, manifest: Manifest
) -> Judgement:
    if against is None:  # judged while it was read, when its bad rows were still there
        verdict = kept_verdict(store, "pool", made.artifact.key)
        assert verdict is not None
        return Judgement(verdict, made.cached)
    if made.artifact.kind == "embeddings":
        return _kept_or(
            store,
            "embeddings",
            digest(CODE_VERSION, quality.CODE_VERSION, made.sha256, against.sha256),
            lambda: quality.judge_embeddings(
                store.read(made.artifact), store.read(against.artifact), manifest.facts["dimension"]
            ),
        )
    # Pointwise, it is candidates that abstain, each for itself.
    most = 1.0 if manifest.settings["mode"] == "pointwise" else run.ranking.max_abstained
    return _kept_or(
        store,
        "rankings",
        digest(CODE_VERSION, quality.CODE_VERSION, made.sha256, against.sha256, most),
        lambda: quality.judge_rankings(
            store.read(made.artifact),
            store.read(against.artifact),
            max_abstained=most,
            abstained=manifest.facts["abstained"],
        ),
    )


def _kept_or(store: Store, boundary: Boundary, key: str, judge: Callable[[], Verdict]) -> Judgement:
    if verdict := kept_verdict(store, boundary, key):
        return Judgement(verdict, cached=True)
    verdict = judge()
    keep_verdict(store, key, verdict)
    return Judgement(verdict, cached=False)


def kept_verdict(store: Store, boundary: Boundary, key: str) -> Verdict | None:
    """The verdict that is kept under a key, or None where there is none that can be read."""
    try:
        return Verdict.model_validate_json(store.read_bytes(f"verdicts/{boundary}/{key}.json"))
    except (FileNotFoundError, ValidationError):
        return None


def keep_verdict(store: Store, key: str, verdict: Verdict) -> None:
    """Keep a verdict under a key."""
    store.write_bytes(f"verdicts/{verdict.boundary}/{key}.json", verdict.model_dump_json(indent=1).encode())
