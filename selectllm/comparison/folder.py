"""The output folder of a comparison: tables for programs, a text, a page and pictures for people."""

import csv
import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from selectllm.comparison.outcomes import Outcome
from selectllm.comparison.page import to_html
from selectllm.comparison.pictures import draw
from selectllm.comparison.settings import ComparisonSettings
from selectllm.comparison.summary import Comparison
from selectllm.comparison.text import summary_row, to_markdown
from selectllm.errors import MissingDependency, StoreError, UsageError
from selectllm.schemas import COMPARISON, SELECTIONS
from selectllm.store.files import remove_stale_temp_files, temporary_pattern, write_atomically
from selectllm.store.tables import to_parquet

MARKER: Final = "comparison.md"
"""Written last: when it is there, the other files belong to it. A folder that has it may be written over."""

TABLES: Final = ("comparison.parquet", "selections.parquet", "summary.csv")

log = logging.getLogger(__name__)


def check_folder(settings: ComparisonSettings) -> None:
    """Check that the output folder can be written, and holds no file of others by our names; raises UsageError."""
    if settings.out is None:
        return
    if "://" in settings.out:
        raise UsageError(f"--out {settings.out} is a URL: name a folder of this machine; the store may be a URL")
    folder = Path(settings.out).expanduser()
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--out {settings.out} cannot be written: {existing} is a file, or may not be written to")
    ours = {MARKER, "comparison.html", *TABLES}
    if not (folder / MARKER).exists() and (foreign := [name for name in ours if os.path.lexists(folder / name)]):
        raise UsageError(f"--out would write over {folder / foreign[0]}, which is not its own: name another folder")


def write_folder(folder: Path, comparison: Comparison) -> None:
    """Write the files, the text last: where it is, the others are its own. Raises StoreError when it cannot.

    Without the packages that draw, there are no pictures and no page, and a warning says so.
    """
    try:
        pictures = draw(comparison.estimates, comparison.outcomes)
        page = {"comparison.html": to_html(comparison, pictures).encode()}
    except MissingDependency as error:
        log.warning("no pictures and no page: %s", error)
        pictures, page = {}, {}
    files = {
        "comparison.parquet": to_parquet(measured_values(comparison.outcomes)),
        "selections.parquet": to_parquet(selections(comparison.outcomes)),
        "summary.csv": _csv([summary_row(estimate) for estimate in comparison.estimates]),
        **{f"{name}.svg": picture.encode() for name, picture in pictures.items()},
        **page,
        MARKER: to_markdown(comparison, list(pictures)).encode(),
    }
    try:
        (folder / MARKER).unlink(missing_ok=True)
        for name, content in files.items():
            remove_stale_temp_files(folder.glob(temporary_pattern(name)))
            write_atomically(folder / name, content)
    except OSError as error:
        raise StoreError(f"the output folder {str(folder)!r} cannot be written: {error.strerror}") from error


def measured_values(outcomes: Sequence[Outcome]) -> pa.Table:
    """Every measured value, as COMPARISON."""
    rows = [
        {**_cell(outcome), "measure": measure, "value": value, "reason": outcome.missing.get(measure)}
        for outcome in outcomes
        for measure, value in outcome.values.items()
    ]
    return pa.Table.from_pylist(rows, schema=COMPARISON)


def selections(outcomes: Sequence[Outcome]) -> pa.Table:
    """The chosen rows of every cell, as SELECTIONS."""
    rows = [
        {**_cell(outcome), "order": order, "id": id} for outcome in outcomes for order, id in enumerate(outcome.ids, 1)
    ]
    return pa.Table.from_pylist(rows, schema=SELECTIONS)


def _cell(outcome: Outcome) -> dict[str, object]:
    cell = outcome.cell
    return {"strategy": cell.strategy, "selector": cell.selector, "budget": cell.budget, "seed": cell.seed}


def _csv(rows: Sequence[dict[str, object]]) -> bytes:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()
