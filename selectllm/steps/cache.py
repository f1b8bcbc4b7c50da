"""Makes an artifact, or finds it made."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from selectllm.settings import RunSettings
from selectllm.store import Artifact, Manifest, Store, content_key

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Hears of progress: the step, how much of it is done, and how much there is."""


def quiet(step: str, done: int, total: int) -> None:
    """Progress nobody."""


class StepResult(BaseModel):
    """A step's result: the artifact, whether it was there already, and what making it took."""

    model_config = ConfigDict(frozen=True)

    artifact: Artifact
    sha256: str
    cached: bool
    seconds: float
    asked: int = 0  # replies that this run paid for, and their tokens
    paid_prompt_tokens: int = 0
    paid_output_tokens: int = 0


class CacheEntry:
    """The place of an artifact in the store, known from all that it is to be made from.

    Parameters: `inputs`, the results of earlier steps, or digests of what is not in the store; `settings`, those that
    matter; `is_good`, whether one that is whole is as this run wants it.
    """

    def __init__(
        self,
        store: Store,
        run: RunSettings,
        kind: str,
        code_version: int,
        inputs: Mapping[str, StepResult | str],
        settings: Mapping[str, Any],
        is_good: Callable[[Manifest], bool] = lambda _: True,
    ) -> None:
        self._started = time.perf_counter()
        self._store, self._code_version, self._settings = store, code_version, settings
        self._is_refreshed = kind in run.refresh
        self._made_from = {name: one if isinstance(one, str) else one.artifact.key for name, one in inputs.items()}
        self._inputs = {name: one.sha256 for name, one in inputs.items() if isinstance(one, StepResult)}
        self.target = Artifact(kind=kind, key=content_key(kind, code_version, self._made_from, settings))
        self._is_good = is_good
        self._seen: Manifest | None = None  # as it was when this run looked for it

    def found(self) -> StepResult | None:
        """The artifact, when it is there whole and was made from these very inputs, and is not to be refreshed."""
        self._seen = manifest = self._store.manifest(self.target)
        if self._is_refreshed:
            return None
        if manifest is None or manifest.inputs != self._inputs:  # what was made anew may differ from what it was
            return None
        if fault := self._store.integrity_error(manifest):
            log.warning("%s %s: it is made again", self._store.path(self.target), fault)
            return None
        return self._made(manifest, cached=True) if self._is_good(manifest) else None

    def keep(self, table: pa.Table, facts: Mapping[str, Any], **paid: int) -> StepResult:
        """Write the artifact; `paid` is what this run paid for it.

        Of two runs that make it at once the first to write it has made it, and the other goes on with that: what
        follows must not be made from a table that is no longer there.
        """
        with self._store.lock(f"artifacts/{self.target.kind}"):
            manifest = self._written_meanwhile() or self._store.write(
                self.target,
                table,
                code_version=self._code_version,
                made_from=self._made_from,
                settings=self._settings,
                facts=facts,
                inputs=self._inputs,
            )
        return self._made(manifest, cached=False, **paid)

    def _written_meanwhile(self) -> Manifest | None:
        manifest = self._store.manifest(self.target)
        if manifest is None or manifest == self._seen or manifest.inputs != self._inputs:
            return None
        if self._store.integrity_error(manifest) or not self._is_good(manifest):
            return None
        log.info("%s: another run has made it meanwhile", self._store.path(self.target))
        return manifest

    def _made(self, manifest: Manifest, *, cached: bool, **paid: int) -> StepResult:
        seconds = time.perf_counter() - self._started
        return StepResult(artifact=self.target, sha256=manifest.sha256, cached=cached, seconds=seconds, **paid)


def rows(store: Store, made: StepResult) -> int:
    """The rows of a step's table, without reading it."""
    manifest = store.manifest(made.artifact)
    return manifest.rows if manifest else 0
