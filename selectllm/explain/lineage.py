"""The artifacts that a run's selection was made from, and the replies of its model."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import StoreError
from selectllm.llm.ledger import Entry
from selectllm.store import Artifact, Manifest, Store, digest
from selectllm.store.runs import load_run

Row = Mapping[str, Any]


class Lineage:
    """The artifacts of one run by kind, from its selection on, and how its model was asked.

    They are read from the manifests. The run's record names them too, but where a slot of a history was filled before,
    its selection was made from another run's artifacts. Where no model ranked, `model` is empty, and `seed` is 0.
    Raises UsageError when the store has no such run, StoreError when an artifact is gone.
    """

    def __init__(self, store: Store, run: str | None = None) -> None:
        self._store = store
        self._tables: dict[str, pa.Table] = {}
        record = load_run(store, run)
        self.run, self.strategy = record.run, record.strategy
        selection = record.artifact("selection")
        if selection is None:
            raise StoreError(f"run {record.run} has no selection in its record: name another with --run")
        self._artifacts, self._manifests = {"selection": selection}, dict[str, Manifest]()
        pending = ["selection"]
        while pending:  # of each kind the nearest to the selection: it holds what earlier pages and generations do
            manifest = self._manifest(pending.pop(0))
            for kind in manifest.inputs:
                if kind not in self._artifacts:
                    self._artifacts[kind] = Artifact(kind=kind, key=manifest.made_from[kind])
                    if kind in ("preferences", "rankings"):  # nothing more is asked of what the others were made from
                        pending.append(kind)
        self._artifacts["quarantine"] = Artifact(kind="quarantine", key=self._manifest("pool").facts["quarantine"])
        self.selected = self._manifest("selection").rows
        asked = self._manifest("rankings").settings if self.has("rankings") else {}
        self.model, self.seed = str(asked.get("name", "")), int(asked.get("seed", 0))
        self.is_pointwise = asked.get("mode") == "pointwise"  # each row was a question of its own, and has a score
        self._ledger = f"replies/{digest(asked['model'])}" if asked else None  # as the key of a ModelInfo is made

    def has(self, kind: str) -> bool:
        """Whether the run has such an artifact: not every run ranks, has a tournament, or excludes rows."""
        return kind in self._artifacts

    def table(self, kind: str) -> pa.Table:
        """The run's table of a kind; raises StoreError when it is gone or damaged."""
        if kind not in self._tables:
            self._tables[kind] = self._store.read(self._artifacts[kind])
        return self._tables[kind]

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The rows of the run's table of a kind; none where the run has none."""
        return self.table(kind).to_pylist() if self.has(kind) else []

    @property
    def abstained_questions(self) -> set[str]:
        """The names of the questions without a usable answer; none where the run is older than version 0.2."""
        kinds = [kind for kind in ("rankings", "tournament") if self.has(kind)]
        return {name for kind in kinds for name in self._manifest(kind).facts.get("abstained_questions", ())}

    def replies(self, id: str) -> list[Entry]:
        """All replies of the run's model, in any run of the store, to questions that showed a row, the earliest first.

        Lines that do not hold the id are not even parsed: a ledger may be large. Of two replies to one question the
        earlier counts, here as everywhere.
        """
        entries: dict[str, Entry] = {}
        for name in self._store.list(self._ledger) if self._ledger else ():
            for line in self._store.read_bytes(name).split(b"\n"):
                entry = Entry.parse(line) if id.encode() in line else None
                if entry and id in entry.shown and (entry.key not in entries or entry.at < entries[entry.key].at):
                    entries[entry.key] = entry
        return sorted(entries.values(), key=lambda entry: (entry.at, entry.key))

    def _manifest(self, kind: str) -> Manifest:
        artifact = self._artifacts[kind]
        manifest = self._manifests.get(kind) or self._store.manifest(artifact)
        if manifest is None:
            raise StoreError(
                f"run {self.run} cannot be explained: {self._store.path(artifact)} is gone or damaged. "
                "Run it again, which makes it again from the replies that are kept, or name another with --run"
            )
        self._manifests[kind] = manifest
        return manifest


def where(table: pa.Table, column: str, value: Any) -> list[dict[str, Any]]:
    """The rows of a table that have this value in a column."""
    return list(table.filter(pc.equal(table[column], value)).to_pylist())
