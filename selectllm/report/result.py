"""A finished run: its record in the store, its summary, and where its tables are."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from selectllm import quality
from selectllm.errors import StoreError
from selectllm.paths import redact_url
from selectllm.report.output import write_folder
from selectllm.report.summary import summarize
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.store import Artifact, Store
from selectllm.store.runs import RunRecord, StepRecord, save_run


@dataclass(frozen=True)
class Result:
    """A finished run: its summary, and where in the store its tables are."""

    store: Store
    summary: dict[str, Any]

    def path(self, kind: str = "selection") -> str:
        """Where the Parquet of one of the run's artifacts is."""
        return self.store.path(self._artifact(kind))

    def table(self, kind: str = "selection") -> pa.Table:
        """One of the run's tables."""
        return self.store.read(self._artifact(kind))

    def _artifact(self, kind: str) -> Artifact:
        return Artifact(kind=kind, key=self.summary["artifacts"][kind])


def publish(context: Context) -> Result:
    """Sum the run up, record it in the store, and write the output folder and the Data Docs where they are asked for.

    Raises StoreError when a file cannot be written.
    """
    settings, store = context.settings, context.store
    result = Result(store, summarize(context))
    record = _record(context, result.summary)
    save_run(store, record)
    if settings.out is not None:
        try:
            tables = result.table("selection"), result.table("quarantine")
            write_folder(Path(settings.out).expanduser(), *tables, result.summary)
        except StoreError as error:
            raise StoreError(f"{error}. The selection is kept: {result.path()}") from error
    if settings.quality.data_docs is not None:
        quality.write_data_docs(Path(settings.quality.data_docs).expanduser(), context.log.verdicts, record.run)
    return result


def _record(context: Context, summary: dict[str, Any]) -> RunRecord:
    now = time.gmtime()
    return RunRecord(
        run=f"{time.strftime('%Y%m%dT%H%M%SZ', now)}-{secrets.token_hex(4)}",
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
        settings=_redacted(context.settings),
        strategy=context.settings.strategy,
        model=summary["model"],
        steps=[
            StepRecord(
                kind=result.kind,
                key=result.artifact.key,
                sha256=result.manifest.sha256,
                cached=result.cached,
                seconds=round(result.seconds, 3),
                facts=result.facts,
                asked=result.asked,
                paid_prompt_tokens=result.paid_prompt_tokens,
                paid_output_tokens=result.paid_output_tokens,
            )
            for result in {result.kind: result for result in context.log.results}.values()
        ],
        summary=summary,
    )


def _redacted(settings: RunSettings) -> dict[str, Any]:
    """The settings as they may be kept: a URL without the user, the password and the query that it may carry."""
    record = settings.model_dump(mode="json")
    record["ranking"]["hosts"] = [redact_url(host) for host in settings.ranking.hosts]
    record["exclude"] = [redact_url(file) for file in settings.exclude]
    return record | {name: redact_url(record[name]) for name in ("pool", "store")}
