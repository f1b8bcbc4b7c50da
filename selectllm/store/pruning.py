"""Removes artifacts that nothing needs any more: old ones, and none that a kept selection was made from.

Never removed: replies, vectors, records of runs and histories, which were paid for or say what was done; and the
queries that the replies are about. So a run whose artifacts are gone can be made again, and no question is asked twice.
Reports of old runs go, too: whoever runs again can have one again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from selectllm.errors import StoreError, UsageError
from selectllm.store.inventory import ArtifactInfo, artifact_record, scan
from selectllm.store.reports import kept_reports, remove_report, report_sizes
from selectllm.store.runs import RunRecord, load_latest, load_runs
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

    `reports` are the names of runs whose report was removed, or would be, with the bytes of each.
    `unresolved` are artifacts that stay, but an input of theirs is gone or has no readable manifest. Anything that is
    older may have gone into them, so nothing older was removed.
    """

    dry_run: bool
    removed: tuple[ArtifactInfo, ...]
    kept: int
    unresolved: tuple[ArtifactInfo, ...]
    reports: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """The size of the removed artifacts and reports."""
        return sum(info.bytes for info in self.removed) + sum(self.reports.values())

    def record(self) -> dict[str, Any]:
        """The same as JSON takes it, with whole keys."""
        return {
            "dry_run": self.dry_run,
            "removed": [artifact_record(info) for info in self.removed],
            "reports": sorted(self.reports),
            "bytes": self.bytes,
            "kept": self.kept,
            "unresolved": [artifact_record(info) for info in self.unresolved],
        }


def prune(store: Store, keep_days: float, *, dry_run: bool = False, now: datetime | None = None) -> Pruned:
    """Remove the artifacts older than `keep_days` that no kept selection was made from, directly or through others.

    Kept are the selections younger than that, those of runs younger than that, the latest run's, and all that a history
    names; and all queries. Reports are kept of runs younger than that, and of the latest.
    Raises UsageError when `keep_days` is negative or no number, StoreError when it cannot be known what is to be kept:
    then nothing is removed.
    """
    if not keep_days >= 0:
        raise UsageError(f"--keep-days is a number of days, 0 or more, not {keep_days}")
    now = now or datetime.now(UTC)
    since = now - timedelta(days=min(keep_days, MAX_DAYS))
    artifacts = scan(store).artifacts
    by_key = {info.artifact.key: info for info in artifacts}  # a key is a digest of the kind too: no two share one
    roots = [info for info in artifacts if info.created is None or info.created >= min(since, now - UNTOUCHED)]
    roots += [by_key[key] for key in _kept_keys(store, since, by_key) if key in by_key]
    needed, unresolved = _needed(roots, by_key)
    newest_unresolved = max((info.created for info in unresolved if info.created), default=None)
    needed |= {info.artifact.key for info in artifacts if info.artifact.kind in LASTING_KINDS and info.manifest}
    needed |= {info.artifact.key for info in artifacts if _explained_selection(info) in needed}
    to_delete = [info for info in artifacts if info.artifact.key not in needed]
    if newest_unresolved:
        to_delete = [info for info in to_delete if info.created and info.created > newest_unresolved]
    # If this is interrupted, what is left still has what it was made from.
    to_delete.sort(key=lambda info: info.newest_first)
    reports = _old_reports(store, min(since, now - UNTOUCHED))
    if not dry_run:
        for run in reports:
            remove_report(store, run)
        _forget_reports(store)
        for info in to_delete:
            store.remove(info.artifact)
        store.remove_stale_temp_files()
    return Pruned(dry_run, tuple(to_delete), len(artifacts) - len(to_delete), tuple(unresolved), reports)


def _old_reports(store: Store, since: datetime) -> dict[str, int]:
    """The runs whose report may go, with its bytes: those of a time before `since`, but the latest.

    A report that stands for a later run too is as old as that run.
    """
    latest = load_latest(store)
    first = _name_at(since)
    last_runs = {report.run: report.last_run for report in kept_reports(store).values() if report}

    def is_needed(run: str) -> bool:
        last = max(run, last_runs.get(run, run))
        return last >= first or bool(latest and last == latest.run)

    return {run: size for run, size in report_sizes(store).items() if not is_needed(run)}


def _forget_reports(store: Store) -> None:
    """Remove what is known of reports that are gone."""
    there = report_sizes(store)
    for name, report in kept_reports(store).items():
        if report is None or report.run not in there:
            store.remove_file(name)


def _name_at(time: datetime) -> str:
    """How the name of a run begins that was recorded at a time."""
    return time.strftime("%Y%m%dT%H%M%SZ")


def _kept_keys(store: Store, since: datetime, by_key: Mapping[str, ArtifactInfo]) -> Iterator[str]:
    """The keys of the kept selections, besides the young ones; of one that is gone, those of the runs that made it."""
    try:
        runs, latest = load_runs(store), load_latest(store)
    except StoreError as error:
        raise StoreError(f"nothing was removed: {error}") from error
    first = _name_at(since)
    for run in runs:
        if run.run >= first:  # a name that begins otherwise is taken for late
            yield from run.keys  # a run may have loaded old artifacts, and made none
    for key, name in _kept_selections(store, latest):
        if (info := by_key.get(key)) and info.manifest:
            yield key
            continue
        makers = [run for run in runs if (selection := run.artifact("selection")) and selection.key == key]
        if not makers:
            raise StoreError(
                f"nothing was removed: the selection {key}, which {name} names, is gone or damaged, and no record says "
                "what it was made from. Restore it, or remove what names it: then its rows can be chosen again"
            )
        for run in makers:
            yield from run.keys


def _kept_selections(store: Store, latest: RunRecord | None) -> Iterator[tuple[str, str]]:
    """The keys of the selections of the latest run and of every slot of a history, each with what names it."""
    if latest:
        if not (selection := latest.artifact("selection")):
            raise StoreError(f"nothing was removed: the record of the latest run, {latest.run}, names no selection")
        yield selection.key, f"the latest run, {latest.run},"
    slots = (name for folder in store.list("history") for name in store.list(folder) if name.endswith(".json"))
    for name in slots:
        yield _slot_selection(store, name), store.address(name)


def _slot_selection(store: Store, name: str) -> str:
    with suppress(FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        key = json.loads(store.read_bytes(name))["selection"]
        if isinstance(key, str):
            return key
    raise StoreError(f"nothing was removed: {store.address(name)} names no selection. Restore it, or remove it")


def _explained_selection(info: ArtifactInfo) -> str | None:
    """The key of the selection that reasons are about: they stay as long as it does, though nothing is made from them.

    None for any other artifact.
    """
    is_readable = info.artifact.kind == "reasons" and info.manifest
    return info.manifest.made_from.get("selection") if is_readable and info.manifest else None


def _needed(roots: Iterable[ArtifactInfo], by_key: Mapping[str, ArtifactInfo]) -> tuple[set[str], list[ArtifactInfo]]:
    """The keys of the roots and of all that they were made from, and the artifacts of which not all is known."""
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
        facts = info.manifest.facts.values()  # they may name further inputs, as a pool's quarantine
        keys = [*info.manifest.made_from.values(), *(fact for fact in facts if isinstance(fact, str))]
        inputs = [by_key[key] for key in keys if key in by_key]
        pending += inputs
        artifacts = {key for name, key in info.manifest.made_from.items() if name in info.manifest.inputs}
        if not artifacts <= {input.artifact.key for input in inputs if input.manifest}:
            unresolved.append(info)
    return needed, unresolved
