"""The reports of flow runs that a store keeps, and which of them shows all that a later run could show.

A page lies at `reports/<run>.html`. What else is known of it lies at `kept_reports/<content>.json`, where the content
is the digest of what the page was made from. So a run that made nothing anew finds the page of the run before it.
"""

import hashlib
from contextlib import suppress
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from selectllm.store.artifacts import digest
from selectllm.store.runs import RunRecord
from selectllm.store.store import Store

REPORTS: Final = "reports"
"""The folder of the pages, each under the name of its run."""

KEPT_REPORTS: Final = "kept_reports"
"""The folder of what is known of the pages, each under the digest of what its page was made from."""


class KeptReport(BaseModel):
    """What is known of a page: the run that made it, the last run that it stands for, its SHA-256, and what shows it.

    `text` is for who shows the page: its pictures in Markdown, say.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    last_run: str
    sha256: str
    text: str


def content_of(record: RunRecord, made_by: Any) -> str:
    """The digest of what a run's page is made from: the run's settings and artifacts, and the code, as `made_by` says.

    The same for runs that differ only in their names, their times, and in what they had to pay for.
    """
    steps = [(step.kind, step.key, step.sha256) for step in record.steps]
    kept = {name: record.summary.get(name) for name in ("artifacts", "validation", "versions")}
    return digest(made_by, record.settings, record.strategy, record.model, steps, kept)


def keep_report(store: Store, run: str, page: bytes) -> str:
    """Keep the page of a run; returns its path or URL. Raises StoreError when it cannot be."""
    store.write_bytes(_page(run), page)
    return address_of(store, run)


def note_report(store: Store, content: str, run: str, page: bytes, text: str) -> None:
    """Note which content the page of a run shows, so that a later run with the same content finds it."""
    _write(store, content, KeptReport(run=run, last_run=run, sha256=hashlib.sha256(page).hexdigest(), text=text))


def find_report(store: Store, content: str, run: str) -> KeptReport | None:
    """The kept page of this content, which from now on stands for `run` too; None where it is gone or altered."""
    found = _read(store, f"{KEPT_REPORTS}/{content}.json")
    if found is None:
        return None
    with suppress(FileNotFoundError):
        if hashlib.sha256(store.read_bytes(_page(found.run))).hexdigest() == found.sha256:
            _write(store, content, found.model_copy(update={"last_run": run}))
            return found
    return None


def address_of(store: Store, run: str) -> str:
    """The path or URL of the page of a run."""
    return store.address(_page(run))


def report_sizes(store: Store) -> dict[str, int]:
    """The bytes of each page, by the run that made it."""
    sizes = store.sizes(REPORTS).items()
    return {name.removesuffix(".html"): size for name, size in sizes if name.endswith(".html")}


def kept_reports(store: Store) -> dict[str, KeptReport | None]:
    """What is known of the pages, by the names of its files; None for one that cannot be read."""
    return {name: _read(store, name) for name in store.list(KEPT_REPORTS)}


def remove_report(store: Store, run: str) -> None:
    """Remove the page of a run, if it is there."""
    store.remove_file(_page(run))


def _page(run: str) -> str:
    return f"{REPORTS}/{run}.html"


def _read(store: Store, name: str) -> KeptReport | None:
    with suppress(FileNotFoundError, ValidationError):
        return KeptReport.model_validate_json(store.read_bytes(name))
    return None


def _write(store: Store, content: str, report: KeptReport) -> None:
    store.write_bytes(f"{KEPT_REPORTS}/{content}.json", report.model_dump_json().encode())
