"""A step's result, and the place in the store that it is loaded from or saved to."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, PrivateAttr

from selectllm import blocks
from selectllm.errors import StoreError
from selectllm.store import Artifact, Manifest, Origin, Store
from selectllm.store.store import NewPart, Staged
from selectllm.store.table_files import EarlierPart

log = logging.getLogger(__name__)

Inputs = Mapping[str, "StepResult | str"]


class StepResult(BaseModel):
    """A step's result: the artifact's manifest, whether it was there already, and what making it took."""

    model_config = ConfigDict(frozen=True)

    manifest: Manifest
    cached: bool
    seconds: float = 0.0
    asked: int = 0  # replies that this run paid for, and their tokens
    paid_prompt_tokens: int = 0
    paid_output_tokens: int = 0
    _table: pa.Table | None = PrivateAttr(None)  # kept, so that within a process it is read and checked once
    _is_hashed: bool = PrivateAttr(False)

    @property
    def artifact(self) -> Artifact:
        """The artifact's name in the store."""
        return self.manifest.artifact

    @property
    def kind(self) -> str:
        """The artifact's kind, which is also the step's name."""
        return self.manifest.kind

    @property
    def facts(self) -> dict[str, Any]:
        """What the step counted."""
        return self.manifest.facts

    def table(self, store: Store) -> pa.Table:
        """The artifact's table, which was found intact when the result was; raises StoreError when it is gone.

        A large pool stays on the disk: of its texts few are looked at together.
        """
        if self._table is None:
            is_large = self.kind == "pool" and self.manifest.rows > blocks.WHOLE_ROWS
            self._table = (store.map if is_large else store.read)(self.artifact, verified=self.manifest)
        return self._table

    def batches(self, store: Store, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of the artifact's table, a few thousand rows at a time; raises as `table` does."""
        if self.cached and not self._is_hashed:
            store.require(self.manifest)
        self._is_hashed = True
        try:
            yield from store.scan(self.artifact, columns)
        except FileNotFoundError:
            raise StoreError(f"{store.path(self.artifact)} is missing: run again, and it is made again") from None

    def ids(self, store: Store) -> pa.ChunkedArray:
        """The artifact's ids; of a large one without the rest of its table, unless that is in memory already."""
        if self._table is not None or self.manifest.rows <= blocks.WHOLE_ROWS:
            return self.table(store)["id"]
        parts = [batch["id"] for batch in self.batches(store, ["id"])]
        return pa.chunked_array([pa.concat_arrays(parts)])

    def release(self) -> None:
        """Let the table go; it is read again when it is needed again."""
        self._table = None

    def with_table(self, table: pa.Table) -> "StepResult":
        """The result, holding a table that is in memory already."""
        self._table = table
        return self


class CacheEntry:
    """The place of an artifact in the store, known from everything that it is to be made from.

    Parameters: `inputs`, the results of earlier steps, or digests of what is not in the store; `settings`, those that
    matter; `is_acceptable`, whether an intact artifact is what this run wants.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        code_version: int,
        inputs: Inputs,
        settings: Mapping[str, Any],
        is_acceptable: Callable[[Manifest], bool] = lambda _: True,
    ) -> None:
        self._started = time.perf_counter()
        self._store = store
        self._origin = Origin(
            code_version=code_version,
            made_from={name: value if isinstance(value, str) else value.artifact.key for name, value in inputs.items()},
            inputs={name: value.manifest.sha256 for name, value in inputs.items() if isinstance(value, StepResult)},
            settings=dict(settings),
        )
        self.artifact = Artifact(kind=kind, key=self._origin.content_key(kind))
        self._is_acceptable = is_acceptable
        self._seen: Manifest | None = None  # as it was when this run looked for it

    def load(self) -> StepResult | None:
        """The artifact, when it is intact, was made from these very inputs and is acceptable; else None."""
        self._seen = manifest = self._store.manifest(self.artifact)
        if manifest is None or manifest.inputs != self._origin.inputs:
            return None
        if error := self._store.integrity_error(manifest):
            log.warning("%s %s: it is made again", self._store.path(self.artifact), error)
            return None
        return self._result(manifest, cached=True) if self._is_acceptable(manifest) else None

    def save(self, table: pa.Table, facts: Mapping[str, Any], **paid: int) -> StepResult:
        """Write the artifact, for which this run `paid`; if another run has just written it, go on with that one.

        What follows must not be made from a table that is no longer there.
        """
        with self._store.lock(f"artifacts/{self.artifact.kind}"):
            if manifest := self._written_meanwhile():
                return self._result(manifest, cached=False, **paid)
            manifest = self._store.write(self.artifact, table, self._origin, facts)
        return self._result(manifest, cached=False, **paid).with_table(table)

    def save_stream(self, schema: pa.Schema, tables: Iterable[pa.Table], facts: Mapping[str, Any]) -> StepResult:
        """Write the artifact as one file from tables, of which one is in memory at a time; else as `save`."""
        return self._save_staged(self._store.stage(self.artifact, schema, tables), facts)

    def save_parts(
        self,
        schema: pa.Schema,
        parts: Iterable[NewPart | EarlierPart],
        facts: Mapping[str, Any],
        whole: pa.Table | None = None,
    ) -> StepResult:
        """Write the artifact as many files, of which one is in memory at a time; else as `save`.

        `whole` is their table, where that is in memory as well.
        """
        return self._save_staged(self._store.stage_parts(self.artifact, schema, parts), facts, whole)

    def _save_staged(
        self, staged: AbstractContextManager[Staged], facts: Mapping[str, Any], whole: pa.Table | None = None
    ) -> StepResult:
        with staged as table, self._store.lock(f"artifacts/{self.artifact.kind}"):
            if manifest := self._written_meanwhile():
                return self._result(manifest, cached=False)
            manifest = self._store.put(self.artifact, table, self._origin, facts)
        result = self._result(manifest, cached=False)
        return result if whole is None else result.with_table(whole)

    def _written_meanwhile(self) -> Manifest | None:
        manifest = self._store.manifest(self.artifact)
        if manifest is None or manifest == self._seen or manifest.inputs != self._origin.inputs:
            return None
        if self._store.integrity_error(manifest) or not self._is_acceptable(manifest):
            return None
        log.info("%s: another run has made it meanwhile", self._store.path(self.artifact))
        return manifest

    def _result(self, manifest: Manifest, *, cached: bool, **paid: int) -> StepResult:
        return StepResult(manifest=manifest, cached=cached, seconds=time.perf_counter() - self._started, **paid)
