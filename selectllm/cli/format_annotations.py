"""The report on annotations as text."""

from collections.abc import Iterable
from typing import Final

from selectllm.export.annotations import KEEP_IDS, SAVE_AS_UTF8, AnnotatedSelection
from selectllm.pool import first_reasons
from selectllm.text import join_names

SHOWN: Final = 10
"""Rows that a line names."""

DIGITS: Final = 8
"""Of an id, enough to find it."""


def format_annotations(annotated: AnnotatedSelection) -> str:
    """Counts of rows first, then what is to be looked at, each with the first rows by their ids."""
    counts, run = annotated.record()["counts"], annotated.chosen.record.run
    lines = [
        f"Read {counts['annotations']:,} annotations of the {counts['rows']:,} rows of run {run}: "
        f"{counts['answered']:,} rows answered, {counts['skipped']:,} skipped, {counts['empty']:,} left empty, "
        f"{counts['missing']:,} missing."
    ]
    if annotated.agreement is not None:
        agreed = f"{annotated.agreement:.0%} of the pairs agree."
        lines.append(f"{counts['several']:,} rows have answers of several annotators: {agreed}")
    if annotated.problems:
        lines.append("Problems: " + ", ".join(f"{name} {count:,}" for name, count in annotated.problems.items()))
    doubled = [f"{id[:DIGITS]} by {annotator}" for id, annotator in annotated.doubled]
    notes = {
        "Missing": _short(annotated.missing),
        "Skipped": _short(annotated.skipped),
        "Empty": _short(annotated.empty),
        "Disputed": _short(annotated.disputed),
        "Annotated more than once by one annotator, of which the latest counts": doubled,
        "Not in the selection": annotated.unknown,
    }
    lines += [f"{title}: {join_names(names, SHOWN)}" for title, names in notes.items() if names]
    if annotated.may_be_of_another_run:
        lines.append("Are they annotations of another run? Name it with --run")
    if annotated.without_id:
        lines.append(f"Without an id: {annotated.without_id:,} records. {KEEP_IDS}")
    lines += [f"Not readable in {file}: {first_reasons(rows.items())}" for file, rows in annotated.faults.items()]
    if annotated.has_undecoded:
        lines.append(SAVE_AS_UTF8)
    return "\n".join(lines)


def _short(ids: Iterable[str]) -> list[str]:
    return [id[:DIGITS] for id in ids]
