"""Writes a run's selection in the format of an annotation tool, of a spreadsheet, of a hub or of an API."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

from selectllm.errors import UsageError
from selectllm.export.argilla import argilla_files
from selectllm.export.chosen import Chosen, read_chosen
from selectllm.export.hugging_face import dataset_files
from selectllm.export.label_studio import label_studio_files
from selectllm.export.names import Target
from selectllm.export.openai_batch import batch_file
from selectllm.export.options import ExportOptions
from selectllm.export.spreadsheet import csv_file
from selectllm.pool.json_lines import json_lines
from selectllm.store import Store
from selectllm.store.new_files import write_new
from selectllm.store.tables import to_parquet


@dataclass(frozen=True)
class Exported:
    """What was written: the files, and how many rows of which run they hold."""

    target: Target
    run: str
    rows: int
    files: tuple[Path, ...]

    def record(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**asdict(self), "files": [str(file) for file in self.files]}


NO_OPTIONS: Final = ExportOptions()

_OF: Final[dict[str, tuple[Target, ...]]] = {
    "prefill": ("label-studio", "argilla"),
    "raw": ("csv",),
    "model": ("openai-batch",),
}


def export_selection(
    store: Store, to: Target, path: str | Path, run: str | None = None, options: ExportOptions = NO_OPTIONS
) -> Exported:
    """Write the rows that a run chose, by default the latest, for a target.

    Parameters: `path`, a new file, or for label-studio, argilla and hf a folder. Nothing that exists is written over.
    Raises UsageError for a run that is not there, a path that cannot be taken or options that the target does not have;
    StoreError when the selection is gone or writing fails.
    """
    _check(to, options)
    if "://" in str(path):
        raise UsageError(f"{path} is a URL: name a path of this machine")
    chosen = read_chosen(store, run)
    if options.prefill and "output" not in chosen.table.column_names:
        raise UsageError("--prefill has nothing to show: no chosen row has a known answer in the pool")
    files = write_new(Path(path).expanduser(), _files(to, chosen, options), store.location)
    return Exported(to, chosen.record.run, len(chosen.table), files)


def _files(to: Target, chosen: Chosen, options: ExportOptions) -> dict[str, bytes]:
    """The files of a target by their names in its folder; "" is the path itself."""
    match to:
        case "label-studio":
            return label_studio_files(chosen, prefill=options.prefill)
        case "argilla":
            return argilla_files(chosen, prefill=options.prefill)
        case "jsonl":
            return {"": json_lines(chosen.table)}
        case "csv":
            return {"": csv_file(chosen, raw=options.raw)}
        case "parquet":
            return {"": to_parquet(chosen.table)}
        case "hf":
            return dataset_files(chosen)
        case "openai-batch":
            return {"": batch_file(chosen, str(options.model))}


def _check(to: Target, options: ExportOptions) -> None:
    if to not in get_args(Target):
        raise UsageError(f"--to cannot be {to!r}: use one of {', '.join(get_args(Target))}")
    for name, value in asdict(options).items():
        if value and to not in _OF[name]:
            raise UsageError(f"--{name} is for --to {' and '.join(_OF[name])} alone, not for {to}")
    if to == "openai-batch" and not options.model:
        raise UsageError("--to openai-batch needs --model: the model that is to answer, such as gpt-4o-mini")
