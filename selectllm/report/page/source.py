"""A run's record and its tables, of which only the columns that are wanted are read, a few thousand rows at a time."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa

from selectllm.errors import StoreError
from selectllm.store import Artifact, Manifest, Store
from selectllm.store.runs import RunRecord


class RunSource:
    """The record and the tables of one run.

    `missing` says of each table that the run had, and that the store no longer has as it was written, what is wrong.
    Raises StoreError where that is the selection.
    """

    def __init__(self, store: Store, record: RunRecord) -> None:
        self.store, self.record = store, record
        self.missing: dict[str, str] = {}
        self._keys: dict[str, str] = dict(record.summary["artifacts"])
        self._schemas: dict[str, pa.Schema | None] = {}
        for kind in self._keys:
            self.columns(kind)
        if not self.columns("selection"):
            fault = self.missing.get("selection", "is not in its record")
            raise StoreError(
                f"run {record.run} cannot be shown: its selection {fault}. Run it again, which makes it again from the "
                "replies that are kept, or name another run"
            )

    @property
    def summary(self) -> dict[str, Any]:
        """What the run did, in numbers."""
        return self.record.summary

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """The manifests of the run's artifacts by kind, as far as they are there."""
        found = {kind: self.store.manifest(Artifact(kind=kind, key=key)) for kind, key in self._keys.items()}
        return {kind: manifest for kind, manifest in found.items() if manifest}

    def facts(self, kind: str) -> dict[str, Any]:
        """What a step counted, empty where the run had no such step; records of 0.1 leave it to the manifest."""
        step = self.record.step(kind)
        if step and step.facts:
            return step.facts
        return self.manifests[kind].facts if kind in self.manifests else {}

    def columns(self, kind: str) -> dict[str, pa.Field]:
        """The columns of a table by name; none where the run has no such table, or not as it was written any more."""
        if kind not in self._keys:
            return {}
        if kind not in self._schemas:
            self._schemas[kind] = self._checked_schema(kind)
        return {field.name: field for field in self._schemas[kind] or ()}

    def has(self, kind: str, *columns: str) -> bool:
        """Whether the run has an intact table of a kind with these columns."""
        return bool(columns) and set(columns) <= set(self.columns(kind))

    def batches(self, kind: str, *columns: str) -> Iterator[pa.RecordBatch]:
        """These columns of a table that the run has, in parts."""
        return self.store.scan(Artifact(kind=kind, key=self._keys[kind]), columns)

    def table(self, kind: str, *columns: str) -> pa.Table:
        """These columns of a table that the run has, in their order."""
        schema = pa.schema([self.columns(kind)[name] for name in columns])
        return pa.Table.from_batches([batch.select(list(columns)) for batch in self.batches(kind, *columns)], schema)

    def _checked_schema(self, kind: str) -> pa.Schema | None:
        manifest = self.manifests.get(kind)
        fault = self.store.integrity_error(manifest) if manifest else "is gone, or its manifest is"
        if manifest is None or fault:
            self.missing[kind] = str(fault)
            return None
        return self.store.schema(manifest.artifact)
