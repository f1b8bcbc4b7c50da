"""`selectllm export`: the chosen rows for annotators, spreadsheets, hubs and batches."""

import sys
from typing import Annotated

from cyclopts import Parameter

from selectllm.cli.artifacts import DEFAULT_STORE, Location
from selectllm.cli.explain import Run
from selectllm.cli.printing import Json, print_either
from selectllm.export.names import Target
from selectllm.export.options import ExportOptions

NO_OPTIONS = ExportOptions()

NEXT = {
    "label-studio": "In Label Studio: create a project, paste interface.xml as its labelling code, import tasks.json.",
    "argilla": "Create the dataset with Argilla's SDK: see docs/annotating.md.",
    "csv": "Annotators fill in the column answer.",
    "openai-batch": "Upload the file for a batch; `selectllm annotations` reads the batch's output.",
}
"""What to do next, for people at a terminal."""


def export(
    path: Annotated[str, Parameter(help="A new file; for label-studio, argilla and hf a folder.")],
    /,
    *,
    to: Annotated[Target, Parameter(help="What to write: see above.")],
    run: Run = None,
    options: ExportOptions = NO_OPTIONS,
    store: Location = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Write the rows that a run chose for annotators, for a spreadsheet, for a hub or for a batch.

    label-studio: tasks.json and interface.xml, which a project of Label Studio takes. argilla: settings.json and
    records.json, which Argilla's SDK makes a dataset of. jsonl, csv, parquet: the rows with all their columns; csv has
    an empty column `answer` to fill in. hf: a Hugging Face dataset with a card that says how the rows were chosen.
    openai-batch: requests for OpenAI's Batch API that have `--model` answer the rows.

    Nothing that exists is written over. The same export can be run again: files that are there and equal are done.

    Examples: `selectllm export for-label-studio --to label-studio`, `selectllm export chosen.csv --to csv`
    """
    from selectllm.export.export import export_selection
    from selectllm.store import Store

    exported = export_selection(Store(store), to, path, run, options)
    text = f"Wrote {exported.rows:,} rows of run {exported.run}: {', '.join(map(str, exported.files))}"
    if sys.stdout.isatty() and to in NEXT:
        text += f"\n{NEXT[to]}"
    print_either(exported.record(), text, json=json)
