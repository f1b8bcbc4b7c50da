"""What the records of a file say: the rows to keep, those at fault and duplicates, or the rows that it names."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel

from selectllm.errors import PoolError
from selectllm.pool.annotated import record_ids
from selectllm.pool.carried import append_carried, check_as_json
from selectllm.pool.formats import read_records, shown_name, suffix_of
from selectllm.pool.layouts import Columns, ColumnsMissing, Layout, chat_columns, recognise
from selectllm.pool.questions import Cells, layout_of, read_question
from selectllm.pool.records import Records, values
from selectllm.pool.rows import READABLE, InvalidRow, is_missing, row_id, validate_row
from selectllm.pool.shards import join_records, with_origins
from selectllm.pool.source import PoolFile, fetch_bytes, name_of
from selectllm.schemas import POOL, QUARANTINE
from selectllm.text import join_names

_REASONS_SHOWN: Final = 10
_PART_ROWS: Final = 65_536
_ID: Final = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class ParsedPool:
    """Every row of a file, before any is left out.

    `table` has the rows whose texts can be used: the columns of schemas.POOL, in the file's order, repeats with the
    same id included. For every other row, by its number, `faults` holds the reason and `broken_rules` the rule
    (pool.rows.RULES). `mapped` are the columns that are wholly stored as texts. Without a `layout` no row can be used:
    `missing` names the columns that one needs, and `refused` says so in words.
    """

    records: Records = field(repr=False)
    layout: str
    mapped: frozenset[str]
    table: pa.Table = field(repr=False)
    faults: Mapping[int, str]
    broken_rules: Mapping[int, str]
    missing: tuple[str, ...] = ()
    refused: str = ""

    def with_extra_columns(self, table: pa.Table) -> pa.Table:
        """Rows of `table` with the columns that go along to the selection, by their new names, in the file's order."""
        return append_carried(with_origins(table, self.records), self.records, self.mapped)


@dataclass(frozen=True)
class Pool:
    """A pool, ready for use: `rows_read == quarantined + duplicates + table.num_rows`.

    `table` has the columns of schemas.POOL and behind them the file's further columns, in the file's order, with
    unique ids. `quarantine` (schemas.QUARANTINE) holds bad rows and duplicates alike, in the file's order. `layout`
    says how the rows were understood, such as "instruction", "messages" or "instruction and messages". `refused` says
    why the file has no usable row; it is empty where there is one.
    """

    table: pa.Table
    quarantine: pa.Table
    rows_read: int
    quarantined: int
    duplicates: int
    layout: str
    refused: str = ""


def parse(file: PoolFile, columns: Columns) -> ParsedPool:
    """Read every row of a pool; columns that `columns` does not name are recognised by the layouts in common use.

    Raises PoolError where the file is damaged as a whole, has no rows, or is to have one column in two roles.
    """
    return parse_records(read(file), columns, file.location)


def read(file: PoolFile) -> Records:
    """The records of a file, or of several; raises PoolError where one is damaged as a whole, or has no rows."""
    if not file.parts:
        return read_records(file.data, file.location, file.form)
    names = _distinct_names(file.parts)
    parts = [(names[part.location], read_records(part.data, part.location, part.form)) for part in file.parts]
    return join_records(parts, shown_name(file.location))


def _distinct_names(parts: Sequence[PoolFile]) -> dict[str, str]:
    """The name of each file by its location: without the folder, unless another file has the same name."""
    files = {part.location: part.name for part in parts}
    repeated = {name for name, count in Counter(files.values()).items() if count > 1}
    return {location: shown_name(location) if name in repeated else name for location, name in files.items()}


def parse_records(records: Records, columns: Columns, location: str) -> ParsedPool:
    """Read every record; raises PoolError where one column is to have two roles."""
    faults, broken_rules = dict(records.faults), dict.fromkeys(records.faults, READABLE)
    texts: list[list[Any]] = [[] for _ in POOL]
    used: Counter[str] = Counter()
    parts: list[pa.RecordBatch] = []
    stored: list[frozenset[str | None]] = []  # of the rows of the table
    try:
        layouts = recognise(records.columns, columns, location) if records.rows else ()
    except ColumnsMissing as error:
        refused, missing = error.args
        faults |= dict.fromkeys(records.rows, f"no column {join_names(map(repr, missing))}")
        return ParsedPool(
            records, "", frozenset(), pa.table(texts, schema=POOL), faults, broken_rules, missing, refused
        )
    for row, cells in zip(records.rows, _cells(records, layouts), strict=True):
        layout = layout_of(cells, layouts)
        try:
            question = read_question(cells, layout, columns)
            valid = validate_row(question.instruction, question.input, question.output)
        except InvalidRow as invalid:
            faults[row], broken_rules[row] = invalid.args
            continue
        used[layout.name] += 1
        stored.append(question.stored)
        for column, value in zip(texts, (row_id(valid[0], valid[1]), row, *valid), strict=True):
            column.append(value)
        if len(texts[0]) == _PART_ROWS:  # as Python's objects all of them would take twice the memory
            parts.append(pa.record_batch(texts, schema=POOL))
            texts = [[] for _ in POOL]
    table = pa.Table.from_batches([*parts, pa.record_batch(texts, schema=POOL)])
    name = " and ".join(used) or (layouts[0].name if layouts else "")
    mapped = _mapped(records, layouts, table["row"], stored)
    others = {name: column for name, column in records.columns.items() if name not in mapped}
    return ParsedPool(replace(records, columns=others), name, mapped, table, faults, broken_rules)


def _cells(records: Records, layouts: Sequence[Layout]) -> Iterator[Cells]:
    """Of each record the values of the columns that a layout reads."""
    names = list(dict.fromkeys(name for layout in layouts for name in layout.columns))
    columns = [values(records.columns[name]) for name in names]
    if records.missing:
        columns = [list(map(_present, column, records.missing)) for column in columns]
    return (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))


def _present(value: Any, missing: frozenset[str]) -> Any:
    """The value, or None for a text that stands for a missing one."""
    return None if isinstance(value, str) and value.strip() in missing else value


def _mapped(
    records: Records, layouts: Sequence[Layout], rows: pa.ChunkedArray, stored: Sequence[frozenset[str | None]]
) -> frozenset[str]:
    """The columns whose values are all stored as texts, so that they need not be carried as well.

    `stored` are those of each of the `rows`.
    """
    names = frozenset(name for columns in set(stored) for name in columns if name is not None)
    if len(set(stored)) > 1:
        stored_of = dict(zip(rows.to_pylist(), stored, strict=True))
        for row, cells in zip(records.rows, _cells(records, layouts), strict=True):
            if row in stored_of:
                names -= {name for name in names - stored_of[row] if not is_missing(cells[name])}
    return names


def partition(parsed: ParsedPool, reasons: Mapping[int, str]) -> Pool:
    """Divide the rows of a file; of rows with the same id, the first that has no fault is kept.

    `reasons` says by row number why further rows are to be quarantined.
    """
    records, faults = parsed.records, {**parsed.faults, **reasons}
    kept, first_rows = _first_of_each_id(parsed.table, faults)
    duplicates = {row: f"duplicate of row {first}" for row, first in first_rows.items()}
    table = parsed.table if kept.all() else parsed.table.filter(pa.array(kept))
    if table.num_rows:
        table = parsed.with_extra_columns(table)
        check_as_json(table)
    refused = "" if table.num_rows else parsed.refused or f"has no usable row: {first_reasons(sorted(faults.items()))}"
    left_out = dict(sorted({**faults, **duplicates}.items()))
    rows = list(left_out)
    quarantine = pa.table([rows, list(left_out.values()), records.texts(rows)], schema=QUARANTINE)
    return Pool(
        table=table,
        quarantine=with_origins(quarantine, records),
        rows_read=len(records.rows) + len(records.faults),
        quarantined=len(faults),
        duplicates=len(duplicates),
        layout=parsed.layout,
        refused=refused,
    )


def _first_of_each_id(table: pa.Table, faults: Mapping[int, str]) -> tuple[npt.NDArray[np.bool_], dict[int, int]]:
    """Which rows have no fault and are the first such with their id; and the first's number by that of each other."""
    rows = table["row"].to_numpy()
    ids = table["id"].combine_chunks().dictionary_encode().indices.to_numpy()
    is_sound = ~np.isin(rows, np.fromiter(faults, np.int64, len(faults)))
    firsts = np.flatnonzero(is_sound)[np.unique(ids[is_sound], return_index=True)[1]]
    first_of = np.zeros(ids.max(initial=-1) + 1, dtype=np.int64)
    first_of[ids[firsts]] = rows[firsts]
    kept = np.zeros(len(rows), dtype=bool)
    kept[firsts] = True
    is_repeat = is_sound & ~kept
    return kept, dict(zip(rows[is_repeat].tolist(), first_of[ids[is_repeat]].tolist(), strict=True))


def refusal(locations: Sequence[str], refused: str, evidence: BaseModel | None = None) -> PoolError:
    """The error of a pool that has nothing usable in it, for the reason that `Pool.refused` gives."""
    return PoolError(f"{shown_name(name_of(locations))} {refused}", evidence)


def named_ids(location: str, columns: Columns) -> frozenset[str]:
    """The ids of the rows that a file names: a text file with an id on every line, or any file that a pool can be.

    In a table all of these count: a row's `id`, its own texts, and its conversation, read as a pool's are; and the
    ids in exports of Label Studio and in OpenAI's batches. An id of another system that looks like one of ours names
    no row, and so does no harm.
    Raises PoolError where the file cannot be read or names no row.
    """
    of_texts: list[str] = []
    if suffix_of(location):
        records = read_records(fetch_bytes(location), location)
        named = record_ids(records)
        for instruction in (columns.instruction, *chat_columns(records.columns)):
            with suppress(PoolError):  # its columns are not a pool's
                as_pool = replace(columns, instruction=instruction, output=None)
                of_texts += parse_records(records, as_pool, location).table["id"].to_pylist()
    else:
        named = fetch_bytes(location, is_table=False).decode("utf-8-sig", errors="replace").split()
    ids = frozenset(of_texts).union(id for id in named if isinstance(id, str) and _ID.fullmatch(id))
    if not ids:
        raise PoolError(
            f"{shown_name(location)} names no row: give ids, one on each line, a selection, or rows with the "
            "texts of the pool's"
        )
    return ids


def first_reasons(reasons: Iterable[tuple[int, str]]) -> str:
    """The first of the reasons why rows were left out, by row number in a file's order, and how many more there are."""
    in_order = list(reasons)
    shown = [f"row {row}: {reason}" for row, reason in in_order[:_REASONS_SHOWN]]
    more = [f"and {len(in_order) - _REASONS_SHOWN:,} more"] if len(in_order) > _REASONS_SHOWN else []
    return "; ".join([*shown, *more])
