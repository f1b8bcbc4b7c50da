"""Between the steps: a table is validated by Great Expectations, once, and the verdict is kept.

A run that finds all verdicts in the store does not wait for Great Expectations to be imported.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pyarrow as pa
from pydantic import ValidationError

from selectllm import blocks, quality
from selectllm.errors import ContractError, QualityError, SelectLLMError, StoreError
from selectllm.execution import Started
from selectllm.pool import refusal
from selectllm.quality import Boundary, Verdict
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context, Validation
from selectllm.steps.left_out import reasons_text
from selectllm.store import Artifact, Store, digest

CODE_VERSION: Final = 1
"""Raise it when the same table is to be validated otherwise."""

log = logging.getLogger(__name__)


def validate(context: Context, result: StepResult, against: StepResult | None = None) -> Validation | None:
    """Validate the pool, its embeddings (`against` the pool) or its rankings (`against` the queries).

    None with --no-validate. Raises QualityError where a critical expectation fails, and PoolError where no row of the
    pool is usable; the verdict is kept all the same.
    """
    if context.settings.quality.no_validate:
        return None
    validation = _validation(context, result, against)
    if refused := result.facts.get("refused"):
        raise refusal(context.settings.pools, refused, validation.verdict)
    try:
        validation.verdict.require()
    except QualityError as error:
        reasons = reasons_text(_quarantine(context, result)) if against is None else ""
        raise QualityError(f"{error}. Rows were left out{reasons}" if reasons else str(error), error.evidence) from None
    return validation


def start_pool_validation(context: Context, pool: StepResult) -> Started[Validation | None]:
    """Start the pool's validation, which goes on while the rows are embedded; a pool that is sure to fail fails now."""
    check = context.log.pool_check  # before the validation begins, which lets it go
    started = context.start(validate, pool)
    if pool.facts.get("refused") or (check and check.fails):
        context.finish(started)
    return started


@contextmanager
def keeping_verdicts(context: Context) -> Iterator[None]:
    """Keep the verdict that ends a run, if one does, and write the Data Docs of a run that failed."""
    try:
        yield
    except SelectLLMError as error:
        verdict = error.evidence
        if isinstance(verdict, Verdict) and not context.settings.quality.no_validate:
            for started in list(context.log.started):  # what they find belongs to the Data Docs, too
                with suppress(SelectLLMError):
                    context.finish(started)
            if isinstance(error, ContractError):
                save_verdict(context.store, digest(verdict.model_dump(mode="json")), verdict)
            _write_data_docs(context.settings, [*context.log.verdicts, verdict])
        raise
    finally:
        context.log.model_loaded.set()  # a thread that waited for ever would keep a flow's process alive


def validation_settings(settings: RunSettings) -> dict[str, Any]:
    """What decides a validation of the pool, besides the pool; empty where nothing is validated."""
    if settings.quality.no_validate:
        return {}
    own = settings.quality.expectations
    return {
        "judged": CODE_VERSION,  # this name is part of the keys of older artifacts
        "rules": quality.CODE_VERSION,
        "suite": quality.suite_digest(own) if own else None,
    }


def load_verdict(store: Store, boundary: Boundary, key: str) -> Verdict | None:
    """The verdict that is kept under a key, or None where there is none that can be read."""
    try:
        return Verdict.model_validate_json(store.read_bytes(f"verdicts/{boundary}/{key}.json"))
    except (FileNotFoundError, ValidationError):
        return None


def save_verdict(store: Store, key: str, verdict: Verdict) -> None:
    """Keep a verdict under a key."""
    store.write_bytes(f"verdicts/{verdict.boundary}/{key}.json", verdict.model_dump_json(indent=1).encode())


def _validation(context: Context, result: StepResult, against: StepResult | None) -> Validation:
    """The verdict that is in the store, else one that is made and kept."""
    store, limit = context.store, _max_abstained(context.settings, result)
    boundary: Boundary = "pool"
    key = result.artifact.key
    if against:
        boundary = "embeddings" if result.kind == "embeddings" else "rankings"
        inputs = result.manifest.sha256, against.manifest.sha256
        key = digest(CODE_VERSION, quality.CODE_VERSION, *inputs, *([] if limit is None else [limit]))
    if verdict := load_verdict(store, boundary, key):
        return Validation(verdict, cached=True)
    if against is None:
        check = context.log.pool_check
        assert check is not None  # the pool is read again where its verdict is missing
        # Two large imports at once take as long as one after the other; numbers can be computed beside one.
        context.log.model_loaded.wait()
        verdict = quality.validate_pool(check)
        context.log.pool_check = None  # several facts about each row, which nobody needs any more
    elif limit is None:  # embeddings
        dimension = result.facts["dimension"]
        if result.manifest.rows > blocks.WHOLE_ROWS:
            batches = result.batches(store, ["id", "vector"])
            schema, ids = store.schema(result.artifact), against.ids(store)
            verdict = quality.validate_embedding_batches(schema, batches, ids, dimension)
        else:
            verdict = quality.validate_embeddings(result.table(store), against.table(store), dimension)
    else:
        tables, abstained = (result.table(store), against.table(store)), result.facts["abstained"]
        verdict = quality.validate_rankings(*tables, max_abstained=limit, abstained=abstained)
    save_verdict(store, key, verdict)
    return Validation(verdict, cached=False)


def _quarantine(context: Context, pool: StepResult) -> pa.Table:
    return context.store.read(Artifact(kind="quarantine", key=pool.facts["quarantine"]))


def _max_abstained(settings: RunSettings, result: StepResult) -> float | None:
    """The share of queries that may have abstained in rankings; any, where each candidate does so for itself."""
    if result.kind != "rankings":
        return None
    return 1.0 if result.manifest.settings["mode"] == "pointwise" else settings.ranking.max_abstained


def _write_data_docs(settings: RunSettings, verdicts: list[Verdict]) -> None:
    """Write the Data Docs of a run that failed; that they fail, too, matters less than why the run did."""
    folder = settings.quality.data_docs
    if folder is None:
        return
    try:
        quality.write_data_docs(folder, verdicts, time.strftime("failed-%Y%m%dT%H%M%SZ", time.gmtime()))
    except StoreError as error:
        log.warning("%s", error)
