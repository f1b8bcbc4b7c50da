"""Removes artifacts that nobody needs any more: old ones, and none that a kept selection was made from.

What was paid for and what tells what was done are never removed: replies, vectors, runs and histories, and the queries
that the replies are about. So a run can be made again even when its artifacts are gone, and no model is asked twice.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from selectllm.errors import StoreError, UsageError
from selectllm.store import Manifest, Store
from selectllm.store.inventory import ArtifactInfo, record, take

UNTOUCHED: Final = timedelta(hours=1)
"""What is younger always stays, with what it was made from: a run under way may have made it, and nothing that is kept
names an artifact before its run is done."""

LASTING: Final = ("queries", "centroids")
"""Kinds that always stay. A pool that grows keeps its queries and so the replies about them: without them it would be
divided otherwise, and all of it asked about again. Both are small beside embeddings."""

LONGEST_DAYS: Final = 100_000.0
"""Beyond this any artifact is young: dates reach no further back than the year 1."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be, and how many artifacts stay.

    `unsure` are those that stay and of which an input has gone or has no readable manifest: since anything that was
    there before may have gone into them, nothing older than they are was removed.
    """

    dry_run: bool
    removed: tuple[ArtifactInfo, ...]
    kept: int
    unsure: tuple[ArtifactInfo, ...]

    @property
    def bytes(self) -> int:
        """What the removed artifacts took."""
        return sum(item.bytes for item in self.removed)

    def record(self) -> dict[str, Any]:
        """The same as JSON takes it, with whole keys."""
        return {
            "dry_run": self.dry_run,
            "removed": [record(item) for item in self.removed],
            "bytes": self.bytes,
            "kept": self.kept,
            "unsure": [record(item) for item in self.unsure],
        }


def prune(store: Store, keep_days: float, *, dry_run: bool = False, now: datetime | None = None) -> Pruned:
    """Remove the artifacts older than `keep_days` that no kept selection was made from, directly or through others.

    Kept are the selections younger than that, those of runs younger than that, the latest run's, and all that a history
    names; and, whatever was made from them, all queries.
    Raises UsageError for a number of days that is none, StoreError when it cannot be known what is to be kept: then
    nothing is removed.
    """
    if not keep_days >= 0:
        raise UsageError(f"--keep-days is a number of days, 0 or more, not {keep_days}")
    now = now or datetime.now(UTC)
    since = now - timedelta(days=min(keep_days, LONGEST_DAYS))
    items = take(store).items
    by_key = {item.artifact.key: item for item in items}  # keys are digests of the kind too: none stands for two
    roots = [item for item in items if item.created is None or item.created >= min(since, now - UNTOUCHED)]
    roots += [by_key[key] for key in _kept(store, since, by_key) if key in by_key]
    needed, unsure = _needed(roots, by_key)
    surely_unneeded_after = max((item.created for item in unsure if item.created), default=None)
    needed |= {item.artifact.key for item in items if item.artifact.kind in LASTING and item.manifest}
    doomed = [item for item in items if item.artifact.key not in needed and _after(item, surely_unneeded_after)]
    doomed.sort(key=_age)
    if not dry_run:
        for item in doomed:  # the newest first: when this is interrupted, what is left still has what it was made from
            store.remove(item.artifact)
        store.remove_stale_temp_files()
    return Pruned(dry_run, tuple(doomed), len(items) - len(doomed), tuple(unsure))


def _kept(store: Store, since: datetime, by_key: Mapping[str, ArtifactInfo]) -> Iterator[str]:
    """The keys of the kept selections, those that are young apart.

    Of a selection that has gone, its runs' records still say what they made it from.
    """
    runs = [_read(store, name) for name in store.list("runs") if name.endswith(".json")]
    first = since.strftime("%Y%m%dT%H%M%SZ")  # a record's name begins so; one that does not is taken for late
    for run in runs:
        if not isinstance(run.get("run"), str) or run["run"] >= first:
            yield from _artifacts(run).values()  # a run may have found old artifacts, and made none
    for key, name in _named(store):
        item = by_key.get(key)
        if item and item.manifest:
            yield key
            continue
        known = [found for run in runs if (found := _artifacts(run)).get("selection") == key]
        if not known:
            raise StoreError(
                f"the selection {key}, which {name} keeps, is gone or damaged, and nobody knows what it was made from: "
                "nothing was removed. Bring it back, or remove that file, which lets its rows be chosen again"
            )
        for found in known:
            yield from found.values()


def _named(store: Store) -> Iterator[tuple[str, str]]:
    """The keys of the selections of the latest run and of every slot of a history, each with the file that says so."""
    files = [(name, "latest") for name in store.list("latest") if name.endswith("/selection.json")]
    files += [
        (name, "slot") for folder in store.list("history") for name in store.list(folder) if name.endswith(".json")
    ]
    for name, kind in files:
        found = _read(store, name)
        key = found.get("selection") if kind == "slot" else _artifacts(found).get("selection")
        if not isinstance(key, str):
            raise _unknown(store, name)
        yield key, store.address(name)


def _artifacts(run: dict[str, Any]) -> dict[str, str]:
    """The keys of a run's artifacts by kind, as its record says."""
    summary = run.get("summary")
    found = summary.get("artifacts") if isinstance(summary, dict) else None
    return {kind: key for kind, key in found.items() if isinstance(key, str)} if isinstance(found, dict) else {}


def _read(store: Store, name: str) -> dict[str, Any]:
    try:
        found = json.loads(store.read_bytes(name))
    except (FileNotFoundError, ValueError, RecursionError):
        raise _unknown(store, name) from None
    if not isinstance(found, dict):
        raise _unknown(store, name)
    return found


def _unknown(store: Store, name: str) -> StoreError:
    return StoreError(
        f"{store.address(name)} does not say what it keeps in any way that can be read, so nothing was removed. "
        "Mend it, or remove it"
    )


def _needed(roots: Iterable[ArtifactInfo], by_key: Mapping[str, ArtifactInfo]) -> tuple[set[str], list[ArtifactInfo]]:
    """The keys of the roots and of all that they were made from, and those of which that is not wholly known."""
    needed: set[str] = set()
    unsure: list[ArtifactInfo] = []
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if item.artifact.key in needed:
            continue
        needed.add(item.artifact.key)
        if item.manifest is None:
            continue
        inputs = [by_key[key] for key in _made_from(item.manifest) if key in by_key]
        waiting += inputs
        artifacts = {key for name, key in item.manifest.made_from.items() if name in item.manifest.inputs}
        if not artifacts <= {one.artifact.key for one in inputs if one.manifest}:
            unsure.append(item)
    return needed, unsure


def _made_from(manifest: Manifest) -> list[str]:
    """The keys of what an artifact was made from; its facts may name more, as a pool's quarantine."""
    return [*manifest.made_from.values(), *(value for value in manifest.facts.values() if isinstance(value, str))]


def _after(item: ArtifactInfo, time: datetime | None) -> bool:
    return time is None or (item.created is not None and item.created > time)


def _age(item: ArtifactInfo) -> tuple[float, str]:
    return -item.created.timestamp() if item.created else 0.0, item.artifact.key
