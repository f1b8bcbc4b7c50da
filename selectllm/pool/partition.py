"""The rows of a file, parted into those to keep, those at fault and duplicates of those kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from selectllm.pool.extra_columns import carried_names, carry
from selectllm.pool.judging import Judge, Judged, Understood
from selectllm.pool.layouts import Layout
from selectllm.pool.parse import Texts, not_understood, understand
from selectllm.pool.records import Records
from selectllm.quality.verdicts import Verdict


@dataclass(frozen=True)
class Partition:
    """What became of each row: `keep` for each record, the texts of those kept, reasons by row number for the others.

    `rows_by_id` holds the row number of each kept row, in the file's order, as the three lists of texts are.
    """

    keep: list[bool] = field(default_factory=list)
    rows_by_id: dict[str, int] = field(default_factory=dict)
    instructions: list[str] = field(default_factory=list)
    inputs: list[str | None] = field(default_factory=list)
    outputs: list[str | None] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    duplicates: dict[int, str] = field(default_factory=dict)
    verdict: Verdict | None = None


def partition_rows(
    records: Records, layout: Layout | None, judge: Judge | None = None, missing: Sequence[str] = ()
) -> Partition:
    """Judge every record as `layout` reads it; of rows with the same id, the first that has no fault is kept.

    `judge` is asked after the texts were understood, and may find further faults. Without a layout, for which the
    columns `missing` are wanted, every record is at fault.
    """
    texts = understand(records, layout) if layout else not_understood(records, missing)
    judged = judge(_understood(records, layout, texts, missing)) if judge else None
    return _parted(texts, judged)


def _understood(records: Records, layout: Layout | None, texts: Texts, missing: Sequence[str]) -> Understood:
    mapped = layout.mapped if layout else set()
    names = carried_names(column for column in records.columns if column not in mapped)
    return Understood(
        table=texts.table,
        carried=lambda: {new: carry(records.columns[old], texts.usable) for old, new in names.items()},
        broken=texts.broken,
        missing=tuple(missing),
    )


def _parted(texts: Texts, judged: Judged | None) -> Partition:
    faults = texts.faults | dict(judged.reasons if judged else {})
    rows_by_id: dict[str, int] = {}
    duplicates: dict[int, str] = {}
    kept = []
    for row, id in zip(texts.rows, texts.ids, strict=True):
        is_kept = row not in faults and rows_by_id.setdefault(id, row) == row
        kept.append(is_kept)
        if not is_kept and row not in faults:
            duplicates[row] = f"duplicate of row {rows_by_id[id]}"
    turn = iter(kept)
    return Partition(
        keep=[usable and next(turn) for usable in texts.usable],
        rows_by_id=rows_by_id,
        instructions=list(compress(texts.instructions, kept)),
        inputs=list(compress(texts.inputs, kept)),
        outputs=list(compress(texts.outputs, kept)),
        faults=faults,
        duplicates=duplicates,
        verdict=judged.verdict if judged else None,
    )
