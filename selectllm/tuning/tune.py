"""One fine-tuning from its files to its scores and its model, in a folder of its own."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from selectllm import cancellation
from selectllm.errors import StoreError, UsageError
from selectllm.execution import Progress, no_progress
from selectllm.paths import redact_url
from selectllm.store.files import write_atomically
from selectllm.text import json_text
from selectllm.tuning.base import Loaded
from selectllm.tuning.checkpoint import load_checkpoint
from selectllm.tuning.encode import EncodedRows
from selectllm.tuning.export_model import export_model
from selectllm.tuning.inputs import Encodings, Inputs, load_and_encode, read_inputs
from selectllm.tuning.score import RowLosses, as_record, measures, score
from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.train import Training, count_steps, train

RESULT: Final = "tuning.json"
"""Written last: when it is there, the other files belong to it."""

LOSSES: Final = "losses.jsonl"


def tune(settings: TuningSettings, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Fine-tune a model, score it before and after, export it, and return the record that `tuning.json` holds.

    The same settings find their result, or go on from the last checkpoint. Raises UsageError before anything is
    loaded, RunError and StoreError when the training cannot be finished.
    """
    with cancellation.propagate_interrupt():
        folder = check_folder(settings.out)
        inputs = read_inputs(settings)
        if (kept := _kept(folder, inputs)) is not None:
            return kept
        load_checkpoint(folder, inputs.fingerprint)  # that of another training is refused before anything is loaded
        loaded, rows = load_and_encode(inputs)
        before = score(loaded.model, rows.test.rows, on_progress, "untuned") if rows.test else None
        return tune_loaded(inputs, (loaded, rows), before, on_progress)


def tune_loaded(
    inputs: Inputs, in_memory: tuple[Loaded, Encodings], before: RowLosses | None, on_progress: Progress
) -> dict[str, Any]:
    """Fine-tune a model that is in memory, whose losses `before` are known; with `no_export` it is then as it was."""
    loaded, rows = in_memory
    settings, folder = inputs.settings, Path(inputs.settings.out).expanduser()
    training = train(loaded, rows.train.rows, settings, (folder, inputs.fingerprint), on_progress)
    after = score(training.model, rows.test.rows, on_progress, "tuned") if rows.test else None
    if settings.no_export:
        training.model.unload()
        path = None
    else:
        path = export_model(inputs.base, loaded, training, folder)
    record = _record(inputs, rows, training) | {"model": str(path) if path else None}
    if before and after:
        record["scores"] = {
            "untuned": measures(before),
            "tuned": measures(after),
            "difference": measures(after, before),
        }
    _write(folder, record, {"untuned": before, "tuned": after})
    return record


def check_folder(out: str) -> Path:
    """The output folder, made where it is not there; raises UsageError where it cannot be."""
    if "://" in out:
        raise UsageError(f"--out {redact_url(out)} is a URL: name a folder of this machine")
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be made: {error.strerror}. Name another folder") from error
    return folder


def _kept(folder: Path, inputs: Inputs) -> dict[str, Any] | None:
    """The record of the same fine-tuning, if it is finished and its model is there."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # a file of another kind is written over at the end
        record: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        is_there = record["model"] is None or (folder / Path(record["model"]).name).exists()
        if record["key"] == inputs.result_key and is_there:
            return record
    return None


def _record(inputs: Inputs, rows: Encodings, training: Training) -> dict[str, Any]:
    settings = inputs.settings
    return {
        "key": inputs.result_key,
        "base": {"name": inputs.base.name, "digest": inputs.base.digest},
        "settings": settings.model_dump(mode="json"),
        "steps": count_steps(len(rows.train.rows), settings),
        "train": _counts(rows.train, inputs.train.left_out),
        "test": _counts(rows.test, inputs.test.left_out) if rows.test and inputs.test else None,
        "step_losses": [round(loss, 6) for loss in training.losses],
        "scores": None,
    }


def _counts(rows: EncodedRows, left_out: Mapping[int, str]) -> dict[str, Any]:
    return {**rows.counts(), "left_out": len(left_out)}


def _write(folder: Path, record: Mapping[str, Any], losses: Mapping[str, RowLosses | None]) -> None:
    lines = [
        json_text({"model": name, **row}) + "\n" for name, found in losses.items() if found for row in as_record(found)
    ]
    try:
        write_atomically(folder / LOSSES, "".join(lines).encode())
        write_atomically(folder / RESULT, json.dumps(record, indent=1, ensure_ascii=False).encode())
    except OSError as error:
        raise StoreError(f"the output folder {str(folder)!r} cannot be written: {error.strerror}") from error
