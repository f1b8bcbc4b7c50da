"""Divides a file's rows into those to keep, those at fault and repeats; in parts, so that a large one is not held."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from selectllm.errors import PoolError
from selectllm.pool.carried import CarriedColumn, Flags, carried_columns, carried_parts, check_as_json
from selectllm.pool.formats import shown_name
from selectllm.pool.parse import ParsedPool, Rows
from selectllm.pool.parts import PART_ROWS
from selectllm.pool.shards import ORIGIN_FIELDS, with_origins
from selectllm.pool.source import name_of
from selectllm.schemas import POOL, QUARANTINE

_REASONS_SHOWN: Final = 10


class KeptRows:
    """Some of the rows of a file, in parts: the columns of schemas.POOL and behind them the file's further columns."""

    def __init__(self, parsed: ParsedPool, is_kept: Flags) -> None:
        self._parsed, self._is_kept = parsed, is_kept
        self._origins = ORIGIN_FIELDS if parsed.records.files else ()
        self._count = int(is_kept.sum())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[pa.Table]:
        if len(self):
            further = carried_parts(self._carried, self._kept_records())
            for table, columns in zip(self._kept_texts(), further, strict=True):
                whole = with_origins(table, self._parsed.records)
                for carried, column in zip(self._carried, columns, strict=True):
                    whole = whole.append_column(carried.field, column)
                yield whole

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns; those of schemas.POOL alone where no row is kept."""
        further = [*self._origins, *(carried.field for carried in self._carried)] if len(self) else []
        return pa.schema([*POOL, *further])

    def whole(self) -> pa.Table:
        """All parts in one, in memory."""
        return pa.concat_tables(self) if len(self) else self.schema.empty_table()

    @cached_property
    def _carried(self) -> Sequence[CarriedColumn]:
        taken = [*POOL.names, *(field.name for field in self._origins)]
        return carried_columns(self._parsed.records, self._parsed.mapped, taken)

    def _kept_texts(self) -> Iterator[pa.Table]:
        start = 0
        for table in self._parsed.parts:
            is_kept = self._is_kept[start : start + len(table)]
            yield table if is_kept.all() else table.filter(pa.array(is_kept))
            start += len(table)

    def _kept_records(self) -> Iterator[Flags]:
        """Which of the file's records are kept, of those up to the end of each part."""
        records, rows = np.asarray(self._parsed.records.rows, dtype=np.int64), self._parsed.rows
        start = first = 0
        for table in self._parsed.parts:
            part = slice(start, start := start + len(table))
            stop = int(np.searchsorted(records, rows[start - 1], "right")) if start else 0
            yield np.isin(records[first:stop], rows[part][self._is_kept[part]])
            first = stop


class LeftOutRows:
    """The rows of a file that are not kept, in parts (schemas.QUARANTINE): those at fault and repeats, in its order.

    `repeats` (k,) are the numbers of repeats, and `firsts` (k,) those of the rows that each repeats.
    """

    def __init__(self, parsed: ParsedPool, faults: Mapping[int, str], repeats: Rows, firsts: Rows) -> None:
        self._records, self._faults = parsed.records, faults
        rows = np.concatenate([np.fromiter(faults, np.int64, len(faults)), repeats])
        order = np.argsort(rows)
        self._rows: Rows = rows[order]
        self._firsts: Rows = np.concatenate([np.zeros(len(faults), dtype=np.int64), firsts])[order]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[pa.Table]:
        texts = iter(self._records.texts(self._rows.tolist()))
        for start in range(0, len(self), PART_ROWS):
            rows, firsts = (each[start : start + PART_ROWS].tolist() for each in (self._rows, self._firsts))
            reasons = [
                f"duplicate of row {first}" if first else self._faults[row]
                for row, first in zip(rows, firsts, strict=True)
            ]
            table = pa.table([rows, reasons, list(islice(texts, len(rows)))], schema=QUARANTINE)
            yield with_origins(table, self._records)

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return pa.schema([*QUARANTINE, *(ORIGIN_FIELDS if self._records.files else ())])

    def whole(self) -> pa.Table:
        """All parts in one, in memory."""
        return pa.concat_tables(self) if len(self) else self.schema.empty_table()


@dataclass(frozen=True)
class Pool:
    """A pool, ready for use: `rows_read == quarantined + duplicates + len(kept)`.

    `kept` has the columns of schemas.POOL and behind them the file's further columns, in the file's order, with unique
    ids. `left_out` (schemas.QUARANTINE) holds bad rows and duplicates alike, in the file's order. `layout` says how the
    rows were understood, such as "instruction", "messages" or "instruction and messages". `refused` says why the file
    has no usable row; it is empty where there is one.
    """

    kept: KeptRows
    left_out: LeftOutRows
    rows_read: int
    quarantined: int
    duplicates: int
    layout: str
    refused: str = ""

    @cached_property
    def table(self) -> pa.Table:
        """All kept rows, in memory."""
        return self.kept.whole()

    @cached_property
    def quarantine(self) -> pa.Table:
        """All rows that are left out, in memory."""
        return self.left_out.whole()


def partition(parsed: ParsedPool, reasons: Mapping[int, str]) -> Pool:
    """Divide the rows of a file; of rows with the same id, the first that has no fault is kept.

    `reasons` says by row number why further rows are to be quarantined. Raises PoolError where a further column cannot
    be written as JSON.
    """
    faults = {**parsed.faults, **reasons}
    is_sound = ~np.isin(parsed.rows, np.fromiter(faults, np.int64, len(faults)))
    sound = np.flatnonzero(is_sound)
    kept = sound[np.unique(parsed.firsts[sound], return_index=True)[1]]  # the first sound row of each id
    row_of = np.zeros(len(parsed.rows), dtype=np.int64)  # its number, by the place of the first row of its id
    row_of[parsed.firsts[kept]] = parsed.rows[kept]
    is_kept = np.zeros(len(parsed.rows), dtype=bool)
    is_kept[kept] = True
    is_repeat = is_sound & ~is_kept
    repeats, firsts = parsed.rows[is_repeat], row_of[parsed.firsts[is_repeat]]
    rows = KeptRows(parsed, is_kept)
    check_as_json(rows.schema, rows)
    refused = "" if len(rows) else parsed.refused or f"has no usable row: {first_reasons(sorted(faults.items()))}"
    return Pool(
        kept=rows,
        left_out=LeftOutRows(parsed, faults, repeats, firsts),
        rows_read=len(parsed.records.rows) + len(parsed.records.faults),
        quarantined=len(faults),
        duplicates=len(repeats),
        layout=parsed.layout,
        refused=refused,
    )


def refusal(locations: Sequence[str], refused: str, evidence: BaseModel | None = None) -> PoolError:
    """The error of a pool that has nothing usable in it, for the reason that `Pool.refused` gives."""
    return PoolError(f"{shown_name(name_of(locations))} {refused}", evidence)


def first_reasons(reasons: Iterable[tuple[int, str]]) -> str:
    """The first of the reasons why rows were left out, by row number in a file's order, and how many more there are."""
    in_order = list(reasons)
    shown = [f"row {row}: {reason}" for row, reason in in_order[:_REASONS_SHOWN]]
    more = [f"and {len(in_order) - _REASONS_SHOWN:,} more"] if len(in_order) > _REASONS_SHOWN else []
    return "; ".join([*shown, *more])
