"""`selectllm export`: the chosen rows for annotators, spreadsheets, hubs and batches."""

import re
import sys
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from selectllm.cli.artifacts import DEFAULT_STORE, Location
from selectllm.cli.printing import Json, print_either
from selectllm.errors import UsageError
from selectllm.export.names import Target
from selectllm.export.options import ExportOptions


@Parameter(name="*")
@dataclass(frozen=True)
class Source:
    """Whose selection is written."""

    run: Annotated[str | None, Parameter(help="The run, which may also stand before PATH. Default: the latest.")] = None
    store: Location = DEFAULT_STORE


NO_OPTIONS, LATEST = ExportOptions(), Source()

RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")

NEXT = {
    "label-studio": "In Label Studio: create a project, paste interface.xml as its labelling code, import tasks.json.",
    "argilla": "Create the dataset with Argilla's SDK: see docs/annotating.md.",
    "csv": "Annotators fill in the column answer.",
    "openai-batch": "Upload the file for a batch; `selectllm annotations` reads the batch's output.",
}
"""What to do next, for people at a terminal."""


def export(
    path: Annotated[str, Parameter(help="A new file; for label-studio, argilla and hf a folder.")],
    path_of_run: Annotated[
        str | None, Parameter(show=False, help="The path, where the word before it names a run.")
    ] = None,
    /,
    *,
    to: Annotated[Target, Parameter(help="What to write: see above.")],
    of: Source = LATEST,
    options: ExportOptions = NO_OPTIONS,
    json: Json = False,
) -> None:
    """Write the rows that a run chose for annotators, for a spreadsheet, for a hub or for a batch.

    label-studio: tasks.json and interface.xml, which a project of Label Studio takes. argilla: settings.json and
    records.json, which Argilla's SDK makes a dataset of. jsonl, csv, parquet: the rows with all their columns; csv has
    an empty column `answer` to fill in. hf: a Hugging Face dataset with a card that says how the rows were chosen.
    openai-batch: requests for OpenAI's Batch API that have `--model` answer the rows.

    Nothing that exists is written over. The same export can be run again: files that are there and equal are done.

    Examples: `selectllm export for-label-studio --to label-studio`,
    `selectllm export 20260301T120000Z-0a1b2c3d --to csv chosen.csv`
    """
    from selectllm.export.export import export_selection
    from selectllm.store import Store

    run, path = (path, path_of_run) if path_of_run is not None else (None, path)
    if run is None and RUN_NAME.fullmatch(path):
        raise UsageError(f"{path} names a run: name the path to write, too: selectllm export {path} --to {to} PATH")
    if run is not None and of.run not in (None, run):
        raise UsageError(f"two runs are named, {run} and --run {of.run}: leave one of them out")
    exported = export_selection(Store(of.store), to, path, run or of.run, options)
    text = f"Wrote {exported.rows:,} rows of run {exported.run}: {', '.join(map(str, exported.files))}"
    if sys.stdout.isatty() and to in NEXT:
        text += f"\n{NEXT[to]}"
    print_either(exported.record(), text, json=json)
