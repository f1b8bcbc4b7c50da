"""The artifacts that a run's selection was made from, and the replies that its ranks rest on."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import StoreError
from selectllm.llm.ledger import Entry
from selectllm.store import Artifact, Manifest, Store, digest
from selectllm.store.runs import load_run


class Lineage:
    """The artifacts of one run, by kind, from the manifest of its selection on.

    The run's record names them too, but a slot of a history keeps the selection that an earlier run made from others.
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
        self.selection = self._manifest(selection)
        self._artifacts = {"selection": selection}
        pending = [self.selection]
        while pending:  # of each kind the nearest to the selection: it holds what earlier pages and generations do
            manifest = pending.pop(0)
            for kind, key in manifest.made_from.items():
                if kind in manifest.inputs and kind not in self._artifacts:
                    self._artifacts[kind] = Artifact(kind=kind, key=key)
                    if kind in ("preferences", "rankings", "pool"):  # what the others are made from is not asked for
                        pending.append(self._manifest(self._artifacts[kind]))
        quarantine = self._manifest(self._artifacts["pool"]).facts["quarantine"]
        self._artifacts["quarantine"] = Artifact(kind="quarantine", key=quarantine)
        self.rankings = self._manifest(self._artifacts["rankings"]) if self.has("rankings") else None

    def has(self, kind: str) -> bool:
        """Whether the run had such a step: not every run ranks, has a tournament, or excludes rows."""
        return kind in self._artifacts

    def table(self, kind: str) -> pa.Table:
        """The run's table of a kind.

        Raises StoreError when it is gone or damaged.
        """
        if kind not in self._tables:
            self._tables[kind] = self._store.read(self._artifacts[kind])
        return self._tables[kind]

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The rows of the run's table of a kind; none where the run has none."""
        return self.table(kind).to_pylist() if self.has(kind) else []

    @property
    def model(self) -> str:
        """The name of the model that ranked; empty where none did."""
        return str(self.rankings.settings["name"]) if self.rankings else ""

    @property
    def is_pointwise(self) -> bool:
        """Whether each row was a question of its own, and has a score."""
        return bool(self.rankings and self.rankings.settings["mode"] == "pointwise")

    def replies(self, id: str) -> list[Entry]:
        """All replies of the run's model to questions that showed the row, in the order that they came.

        Lines that do not hold the id are not even parsed: a ledger may be large. Of two replies to one question the
        earlier counts, here as everywhere.
        """
        if self.rankings is None:
            return []
        folder = digest(self.rankings.settings["model"])  # as the key of a ModelInfo is made
        entries: dict[str, Entry] = {}
        for name in self._store.list(f"replies/{folder}"):
            for line in self._store.read_bytes(name).split(b"\n"):
                entry = Entry.parse(line) if id.encode() in line else None
                if entry and id in entry.shown and (entry.key not in entries or entry.at < entries[entry.key].at):
                    entries[entry.key] = entry
        return sorted(entries.values(), key=lambda entry: (entry.at, entry.key))

    def _manifest(self, artifact: Artifact) -> Manifest:
        manifest = self._store.manifest(artifact)
        if manifest is None:
            raise StoreError(
                f"run {self.run} cannot be explained: {self._store.path(artifact)} is gone or damaged. "
                "Run it again, which makes it again from the replies that are kept, or name another with --run"
            )
        return manifest


def where(table: pa.Table, column: str, value: Any) -> list[dict[str, Any]]:
    """The rows of a table that have this value in a column."""
    return list(table.filter(pc.equal(table[column], value)).to_pylist())
