"""The records of runs: what each did, step by step. Only this module reads and writes `v1/runs` and `v1/latest`."""

import json
import re
import secrets
import time
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, field_validator

from selectllm.errors import StoreError, UsageError
from selectllm.store.artifacts import Artifact
from selectllm.store.store import Store

_LATEST: Final = "latest/selection.json"

NAMED_RUNS: Final = 5
"""Runs that an error names."""


class StepRecord(BaseModel):
    """What one step of a run made or loaded, with its own facts."""

    model_config = ConfigDict(frozen=True)

    kind: str
    key: str
    sha256: str = ""
    cached: bool = False
    seconds: float = 0.0
    made_from: dict[str, str] = {}  # the keys of its inputs, by kind
    facts: dict[str, Any] = {}
    asked: int = 0  # replies that the run paid for, and their tokens
    paid_prompt_tokens: int = 0
    paid_output_tokens: int = 0


class RunRecord(BaseModel):
    """What a run did: its settings without secrets, the model it asked, its steps in order, and its summary."""

    model_config = ConfigDict(frozen=True)

    run: str  # its name, which begins with the time of its end
    created: str = ""
    settings: dict[str, Any] = {}
    strategy: str = "selectllm"
    model: dict[str, Any] | None = None
    steps: tuple[StepRecord, ...]
    summary: dict[str, Any]

    def step(self, kind: str) -> StepRecord | None:
        """The step that made or loaded the artifact of a kind, if there was one."""
        return next((step for step in self.steps if step.kind == kind), None)

    def artifact(self, kind: str) -> Artifact | None:
        """The run's artifact of a kind, if it has one."""
        step = self.step(kind)
        return Artifact(kind=kind, key=step.key) if step else None

    @property
    def keys(self) -> set[str]:
        """The keys of all the run's artifacts, those that are no step's own among them, such as the quarantine."""
        return {step.key for step in self.steps} | set(self.summary["artifacts"].values())

    @field_validator("summary")
    @classmethod
    def _has_artifacts(cls, summary: dict[str, Any]) -> dict[str, Any]:
        if not all(isinstance(key, str) for key in summary["artifacts"].values()):
            raise ValueError("the summary names artifacts by what is no key")
        return summary


def new_run_name() -> str:
    """The name of a run that ends now: the time in UTC, and digits drawn at random."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def save_traceback(store: Store, text: str) -> str:
    """Keep the traceback of a run that an unexpected error has ended; returns its path or URL."""
    name = f"runs/{new_run_name()}.log"
    store.write_bytes(name, text.encode("utf-8", "backslashreplace"))
    return store.address(name)


def save_run(store: Store, record: RunRecord) -> None:
    """Keep a run's record, and make it the latest."""
    content = record.model_dump_json(indent=1).encode() + b"\n"
    store.write_bytes(f"runs/{record.run}.json", content)
    store.write_bytes(_LATEST, content)


def load_run(store: Store, run: str | None = None) -> RunRecord:
    """The record of a run, by default of the latest.

    Raises UsageError when the store has no such run, StoreError for a file that is no record.
    """
    if run is not None and not re.fullmatch(r"[\w.-]+", run):
        raise UsageError(f"--run {run!r} is no name of a run. {_advice(store)}")
    name = _LATEST if run is None else f"runs/{run}.json"
    try:
        return _read(store, name)
    except FileNotFoundError:
        missing = "no run yet" if run is None else f"no run {run}"
        raise UsageError(f"the store {store.location!r} has {missing}. {_advice(store)}") from None


def load_latest(store: Store) -> RunRecord | None:
    """The record of the latest run, None where there was no run yet; raises StoreError for a file that is no record."""
    return _read(store, _LATEST) if _LATEST in store.list("latest") else None


def load_runs(store: Store) -> list[RunRecord]:
    """The records of all runs, the latest first; raises StoreError for a file that is no record."""
    return [_read(store, f"runs/{run}.json") for run in list_runs(store)]


def list_runs(store: Store) -> list[str]:
    """The names of all runs that have a record, the latest first."""
    names = (name.removeprefix("runs/") for name in reversed(store.list("runs")))
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def _read(store: Store, name: str) -> RunRecord:
    """The record in a file; raises FileNotFoundError when there is none, StoreError for a file that is no record."""
    try:
        record = json.loads(store.read_bytes(name))
        return RunRecord.model_validate(record if "steps" in record else _from_first_layout(record))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise StoreError(
            f"{store.address(name)} is not the record of a run: restore it, remove it, or name another run"
        ) from None


def _from_first_layout(record: dict[str, Any]) -> dict[str, Any]:
    """A record as version 0.1 wrote it, in today's fields: the artifacts' keys stood in the summary alone."""
    summary = record["summary"]
    seconds, cached = summary.get("seconds", {}), summary.get("cached", ())
    model = summary.get("model")
    return {
        "run": record["run"],
        "settings": record.get("settings", {}),
        "model": model and {("kind" if name == "quality" else name): value for name, value in model.items()},
        "steps": [
            {"kind": kind, "key": key, "seconds": seconds.get(kind, 0.0), "cached": kind in cached}
            for kind, key in summary["artifacts"].items()
        ],
        "summary": summary,
    }


def _advice(store: Store) -> str:
    if names := list_runs(store):
        return f"The latest: {', '.join(names[:NAMED_RUNS])}"
    return "Choose rows first, with `selectllm select`, or name the right --store"
