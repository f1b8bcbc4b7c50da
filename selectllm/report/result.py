"""What a run leaves behind: the summary, and the files that people and other programs read."""

import json
import math
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from selectllm.errors import StoreError, UsageError
from selectllm.llm import ModelInfo
from selectllm.paths import redact_url
from selectllm.quality import data_docs
from selectllm.quality.verdicts import Verdict
from selectllm.ranking.stats import added, agreement, position_bias
from selectllm.settings import RunSettings
from selectllm.steps import Judgement, StepResult
from selectllm.store import Artifact, Store, versions
from selectllm.store.files import TEMPORARY_PATTERN, remove_stale_temp_files, write_atomically
from selectllm.store.tables import to_parquet

COUNTED: Final = (
    *("ranked", "repaired", "reasked", "abstained", "split", "ties", "clipped", "blocks"),
    *("prompt_tokens", "output_tokens", "faults"),
)


LINE_ENDS: Final = {ord(one): f"\\u{ord(one):04x}" for one in "\x85\u2028\u2029"}
"""Line ends of Unicode that JSON lets stand, and at which some readers of lines split."""


@dataclass(frozen=True)
class Result:
    """A finished run: its summary, and where in the store its tables lie."""

    store: Store
    summary: dict[str, Any]

    def path(self, kind: str = "selection") -> str:
        """Where the Parquet of one of the run's artifacts lies."""
        return self.store.path(self._artifact(kind))

    def table(self, kind: str = "selection") -> pa.Table:
        """One of the run's tables."""
        return self.store.read(self._artifact(kind))

    def _artifact(self, kind: str) -> Artifact:
        return Artifact(kind=kind, key=self.summary["artifacts"][kind])


def publish(
    store: Store,
    run: RunSettings,
    card: ModelInfo,
    made: Sequence[StepResult | None],
    judgements: Sequence[Judgement | None] = (),
) -> Result:
    """Sum the run up, record it in the store, and write the output folder and the Data Docs where they are asked for.

    Raises StoreError when a file cannot be written.
    """
    steps = {one.artifact.kind: one for one in made if one is not None}
    verdicts = [one.verdict for one in judgements if one is not None]
    result = Result(store, summarise(store, run, card, steps, verdicts))
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
    record = _json({"run": name, "settings": _recorded(run), "summary": result.summary})
    store.write_bytes(f"runs/{name}.json", record)
    store.write_bytes("latest/selection.json", record)
    if run.out is not None:
        _write_folder(result, Path(run.out).expanduser())
    if run.quality.data_docs is not None:
        data_docs(Path(run.quality.data_docs).expanduser(), verdicts, name)
    return result


def summarise(
    store: Store, run: RunSettings, card: ModelInfo, steps: dict[str, StepResult], verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """The run in numbers. Every count can be traced to a table, and the pool's add up.

    `ranking.asked` is what this run paid for and `from_ledger` what earlier ones had paid; the other counts of
    `ranking` are of all replies that the selection rests on. `seconds` are this run's.
    """
    facts = {kind: manifest.facts for kind, made in steps.items() if (manifest := store.manifest(made.artifact))}
    selection = store.manifest(steps["selection"].artifact)
    assert selection is not None
    asked = sum(made.asked for made in steps.values())
    ranking = added(facts["rankings"], facts.get("tournament", {}))
    return {
        "pool": {name: facts["pool"][name] for name in ("rows_read", "quarantined", "duplicates", "kept")},
        "queries": {name: facts["queries"][name] for name in ("count", "size", "composition")},
        "ranking": {
            "asked": asked,
            "from_ledger": ranking["replies"] - asked,
            **{name: ranking[name] for name in COUNTED},
            "rounds": ranking.get("rounds", 0),
            "queued_seconds": round(ranking["queued"], 1),
            "silent": list(ranking["silent"]),
            "agreement": agreement(ranking),
            "agreement_by_query": ranking["concordances"],
            "position_p": position_bias(ranking),
        },
        "validation": {one.boundary: one.summary() for one in verdicts},
        "cost": _cost(run, steps.values(), ranking),
        "selection": facts["selection"] | ({"history": run.history, "slot": run.slot} if run.history else {}),
        "model": {
            "selector": card.selector,
            "name": card.name,
            "digest": card.digest,
            "server_version": card.server_version,
            "quality": card.quality,
            "mode": card.mode,
        },
        "artifacts": {"quarantine": facts["pool"]["quarantine"]}
        | {kind: made.artifact.key for kind, made in steps.items()}
        # A slot that was filled before holds what it was made from then, whatever has changed since.
        | {kind: key for kind, key in selection.made_from.items() if kind in steps},
        "seconds": {kind: round(made.seconds, 3) for kind, made in steps.items()},
        "cached": sorted(kind for kind, made in steps.items() if made.cached),
        "store": redact_url(store.location),
        "seed": run.seed,
        "versions": versions(),
    }


def _cost(run: RunSettings, made: Iterable[StepResult], ranking: Mapping[str, Any]) -> dict[str, float] | None:
    """What this run paid and what the whole selection rests on, by the prices given; None without prices."""
    price_in, price_out = run.ranking.price_in / 1e6, run.ranking.price_out / 1e6
    if not price_in and not price_out:
        return None
    paid = sum(one.paid_prompt_tokens * price_in + one.paid_output_tokens * price_out for one in made)
    whole = ranking["prompt_tokens"] * price_in + ranking["output_tokens"] * price_out
    return {"this_run": round(paid, 6), "selection": round(whole, 6)}


def json_lines(table: pa.Table) -> bytes:
    """A table as JSON lines in UTF-8; `input` and `output` are left out of rows that have none."""
    rows = (
        {name: _finite(value) for name, value in row.items() if value is not None or name not in ("input", "output")}
        for row in table.to_pylist()
    )
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False, default=str) for row in rows)
    return b"".join(line.translate(LINE_ENDS).encode() + b"\n" for line in lines)


def check_folders(run: RunSettings) -> None:
    """Raise UsageError when a folder that the run is to fill could not be, while nothing has been paid for yet."""
    for option, folder in (("--out", run.out), ("--data-docs", run.quality.data_docs)):
        if folder is not None:
            _check_folder(option, folder)


def _check_folder(option: str, folder: str) -> None:
    if "://" in folder:
        raise UsageError(f"{option} {folder} is a URL: name a folder of this machine; the store (--store) may be a URL")
    path = Path(folder).expanduser()
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fault = "may not be written to" if there.is_dir() else "is a file"
        raise UsageError(f"{option} {folder} cannot be written: {there} {fault}")


def _write_folder(result: Result, folder: Path) -> None:
    """Write the output folder's files, each whole, and the summary last: where it is, the others are its own."""
    selection = result.table("selection")
    if selection["output"].null_count == len(selection):
        selection = selection.drop_columns("output")
    files = {
        "selection.parquet": to_parquet(selection),
        "selection.jsonl": json_lines(selection),
        "quarantine.parquet": to_parquet(result.table("quarantine")),
        "summary.json": _json(result.summary),
    }
    try:
        remove_stale_temp_files(folder.glob(TEMPORARY_PATTERN))
        (folder / "summary.json").unlink(missing_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise StoreError(
            f"the output folder {str(folder)!r} cannot be written: {error.strerror}. "
            f"The selection is kept: {result.path('selection')}"
        ) from error


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: where a column holds one, its lines hold null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _recorded(run: RunSettings) -> dict[str, Any]:
    """The settings as they may be kept: a URL without the user, the password and the query that it may carry."""
    settings = run.model_dump(mode="json")
    settings["ranking"]["hosts"] = [redact_url(host) for host in run.ranking.hosts]
    settings["exclude"] = [redact_url(file) for file in run.exclude]
    return settings | {name: redact_url(settings[name] or "") or None for name in ("pool", "store", "runner_address")}
