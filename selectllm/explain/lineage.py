"""The way back from a run's selection: the artifacts that it was made from, and the replies that its ranks rest on."""

import json
import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import StoreError, UsageError
from selectllm.llm.ledger import Entry
from selectllm.store import Artifact, Manifest, Store, digest

NAMED: Final = 5
"""Runs that an error names."""


class Lineage:
    """The artifacts of one run, by kind, found from the manifest of its selection.

    Its record names them too, but a slot of a history keeps the selection that an earlier run made from others.
    Raises UsageError when the store has no such run, StoreError when the way back is broken.
    """

    def __init__(self, store: Store, run: str | None = None) -> None:
        self._store = store
        self._read: dict[str, pa.Table] = {}
        record = _record(store, run)
        self.run = str(record["run"])
        self.selection = self._manifest("selection", record["summary"]["artifacts"]["selection"])
        self._keys = {"selection": self.selection.key, **self.selection.made_from}
        self.rankings = self._manifest("rankings", self._keys["rankings"])
        self._keys["queries"] = self.rankings.made_from["queries"]
        self._keys["quarantine"] = self._manifest("pool", self._keys["pool"]).facts["quarantine"]

    def has(self, kind: str) -> bool:
        """Whether the run had such a step: not every run has a tournament, or excludes rows."""
        return kind in self._keys

    def read(self, kind: str) -> pa.Table:
        """The run's table of a kind.

        Raises StoreError when it is gone or damaged.
        """
        if kind not in self._read:
            self._read[kind] = self._store.read(Artifact(kind=kind, key=self._keys[kind]))
        return self._read[kind]

    @property
    def model(self) -> str:
        """The name of the model that ranked."""
        return str(self.rankings.settings["name"])

    @property
    def is_pointwise(self) -> bool:
        """Whether each row was a question of its own, and has a score."""
        return bool(self.rankings.settings["mode"] == "pointwise")

    def replies(self, id: str) -> list[Entry]:
        """All replies of the run's model to questions that showed the row, in the order that they came.

        Lines that do not hold the id are not even parsed: a ledger may be large. Of two replies to one question the
        earlier counts, here as everywhere.
        """
        folder = digest(self.rankings.settings["model"])  # as a ModelInfo's key is made
        found: dict[str, Entry] = {}
        for name in self._store.list(f"replies/{folder}"):
            for line in self._store.read_bytes(name).split(b"\n"):
                entry = Entry.parse(line) if id.encode() in line else None
                if entry and id in entry.shown and (entry.key not in found or entry.at < found[entry.key].at):
                    found[entry.key] = entry
        return sorted(found.values(), key=lambda entry: (entry.at, entry.key))

    def _manifest(self, kind: str, key: str) -> Manifest:
        artifact = Artifact(kind=kind, key=key)
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


def _record(store: Store, run: str | None) -> dict[str, Any]:
    """The record of a run; of the latest when none is named."""
    if run is not None and not re.fullmatch(r"[\w.-]+", run):
        raise UsageError(f"--run {run!r} is no name of a run. {_runs(store)}")
    name = "latest/selection.json" if run is None else f"runs/{run}.json"
    try:
        record = json.loads(store.read_bytes(name))
        _ = record["run"], record["summary"]["artifacts"]["selection"]
    except FileNotFoundError:
        missing = "no run yet" if run is None else f"no run {run}"
        raise UsageError(f"the store {store.location!r} has {missing}. {_runs(store)}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise StoreError(f"{store.address(name)} is not the record of a run: name another with --run") from None
    return dict(record)


def _runs(store: Store) -> str:
    names = [name.rsplit("/", 1)[-1].removesuffix(".json") for name in store.list("runs") if name.endswith(".json")]
    if not names:
        return "Choose rows first, with `selectllm select`, or name the right --store"
    return f"The latest: {', '.join(names[: -NAMED - 1 : -1])}"
