"""Removes artifacts that nothing needs any more: old ones, and none that a kept selection was made from.

What was paid for and what says what was done are never removed: replies, vectors, runs and histories, and the queries
that the replies are about. So a run can be made again even when its artifacts are gone, and no model is asked twice.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from selectllm.errors import StoreError, UsageError
from selectllm.store.artifacts import Manifest
from selectllm.store.inventory import ArtifactInfo, artifact_record, scan
from selectllm.store.runs import LATEST, RunRecord, has_latest, list_runs, read_record
from selectllm.store.store import Store

UNTOUCHED: Final = timedelta(hours=1)
"""What is younger always stays, with what it was made from: a run under way may have made it, and nothing that is kept
names an artifact before its run is done."""

LASTING_KINDS: Final = ("queries", "centroids")
"""Kinds that always stay. A pool that grows keeps its queries and so the replies about them: without them it would be
divided otherwise, and all of it asked about again. Both are small beside embeddings."""

MAX_DAYS: Final = 100_000.0
"""Beyond this any artifact is young: dates reach no further back than the year 1."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be, and how many artifacts stay.

    `unresolved` are those that stay and of which an input is gone or has no readable manifest: since anything that was
    there before may have gone into them, nothing older than they are was removed.
    """

    dry_run: bool
    removed: tuple[ArtifactInfo, ...]
    kept: int
    unresolved: tuple[ArtifactInfo, ...]

    @property
    def bytes(self) -> int:
        """What the removed artifacts took."""
        return sum(info.bytes for info in self.removed)

    def record(self) -> dict[str, Any]:
        """The same as JSON takes it, with whole keys."""
        return {
            "dry_run": self.dry_run,
            "removed": [artifact_record(info) for info in self.removed],
            "bytes": self.bytes,
            "kept": self.kept,
            "unresolved": [artifact_record(info) for info in self.unresolved],
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
    since = now - timedelta(days=min(keep_days, MAX_DAYS))
    artifacts = scan(store).artifacts
    by_key = {info.artifact.key: info for info in artifacts}  # keys are digests of the kind too: none stands for two
    roots = [info for info in artifacts if info.created is None or info.created >= min(since, now - UNTOUCHED)]
    roots += [by_key[key] for key in _kept(store, since, by_key) if key in by_key]
    needed, unresolved = _needed(roots, by_key)
    oldest_sure = max((info.created for info in unresolved if info.created), default=None)
    needed |= {info.artifact.key for info in artifacts if info.artifact.kind in LASTING_KINDS and info.manifest}
    to_delete = [info for info in artifacts if info.artifact.key not in needed and _is_after(info, oldest_sure)]
    to_delete.sort(key=_age)
    if not dry_run:
        for (
            info
        ) in to_delete:  # the newest first: when this is interrupted, what is left still has what it was made from
            store.remove(info.artifact)
        store.remove_stale_temp_files()
    return Pruned(dry_run, tuple(to_delete), len(artifacts) - len(to_delete), tuple(unresolved))


def _kept(store: Store, since: datetime, by_key: Mapping[str, ArtifactInfo]) -> Iterator[str]:
    """The keys of the kept selections, besides the young ones.

    Of a selection that is gone, its runs' records still say what they made it from.
    """
    runs = [_record(store, f"runs/{run}.json") for run in list_runs(store)]
    first = since.strftime("%Y%m%dT%H%M%SZ")  # a record's name begins so; one that does not is taken for late
    for run in runs:
        if run.run >= first:
            yield from _keys(run)  # a run may have loaded old artifacts, and made none
    for key, name in _named(store):
        info = by_key.get(key)
        if info and info.manifest:
            yield key
            continue
        makers = [run for run in runs if (selection := run.artifact("selection")) and selection.key == key]
        if not makers:
            raise StoreError(
                f"the selection {key}, which {name} keeps, is gone or damaged, and no record says what it was made "
                "from: nothing was removed. Bring it back, or remove that file, which lets its rows be chosen again"
            )
        for run in makers:
            yield from _keys(run)


def _named(store: Store) -> Iterator[tuple[str, str]]:
    """The keys of the selections of the latest run and of every slot of a history, each with the file that says so."""
    if has_latest(store):
        selection = _record(store, LATEST).artifact("selection")
        if selection is None:
            raise _unreadable(store, LATEST)
        yield selection.key, store.address(LATEST)
    for folder in store.list("history"):
        for name in store.list(folder):
            if name.endswith(".json"):
                yield _slot_selection(store, name), store.address(name)


def _slot_selection(store: Store, name: str) -> str:
    try:
        key = json.loads(store.read_bytes(name))["selection"]
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        raise _unreadable(store, name) from None
    if not isinstance(key, str):
        raise _unreadable(store, name)
    return key


def _record(store: Store, name: str) -> RunRecord:
    try:
        return read_record(store, name)
    except (FileNotFoundError, StoreError):
        raise _unreadable(store, name) from None


def _keys(run: RunRecord) -> list[str]:
    return [*(step.key for step in run.steps), *run.summary.get("artifacts", {}).values()]


def _unreadable(store: Store, name: str) -> StoreError:
    return StoreError(
        f"{store.address(name)} does not say what it keeps in any way that can be read, so nothing was removed. "
        "Mend it, or remove it"
    )


def _needed(roots: Iterable[ArtifactInfo], by_key: Mapping[str, ArtifactInfo]) -> tuple[set[str], list[ArtifactInfo]]:
    """The keys of the roots and of all that they were made from, and those of which that is not wholly known."""
    needed: set[str] = set()
    unresolved: list[ArtifactInfo] = []
    pending = list(roots)
    while pending:
        info = pending.pop()
        if info.artifact.key in needed:
            continue
        needed.add(info.artifact.key)
        if info.manifest is None:
            continue
        inputs = [by_key[key] for key in _made_from(info.manifest) if key in by_key]
        pending += inputs
        artifacts = {key for name, key in info.manifest.made_from.items() if name in info.manifest.inputs}
        if not artifacts <= {input.artifact.key for input in inputs if input.manifest}:
            unresolved.append(info)
    return needed, unresolved


def _made_from(manifest: Manifest) -> list[str]:
    """The keys of what an artifact was made from; its facts may name more, as a pool's quarantine."""
    return [*manifest.made_from.values(), *(value for value in manifest.facts.values() if isinstance(value, str))]


def _is_after(info: ArtifactInfo, time: datetime | None) -> bool:
    return time is None or (info.created is not None and info.created > time)


def _age(info: ArtifactInfo) -> tuple[float, str]:
    return -info.created.timestamp() if info.created else 0.0, info.artifact.key
