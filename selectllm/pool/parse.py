"""What the records of a file say: the rows whose texts can be used, and why the others cannot."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.pool.formats import read_records, shown_name
from selectllm.pool.layouts import Columns, ColumnsMissing, Layout, recognise, refuse_strangers
from selectllm.pool.parts import PART_ROWS, Parts, Spill
from selectllm.pool.questions import Cells, layout_of, read_question
from selectllm.pool.records import NoRows, Records, in_parts, one_by_one
from selectllm.pool.rows import READABLE, InvalidRow, is_missing, row_id, validate_row
from selectllm.pool.shards import join_records
from selectllm.pool.source import PoolFile
from selectllm.schemas import POOL
from selectllm.store.digests import as_digests, first_places
from selectllm.text import join_names

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ParsedPool:
    """Every row of a file, before any is left out.

    `parts` are the rows whose texts can be used: the columns of schemas.POOL, in the file's order, repeats with the
    same id included. `rows` (n,) are their numbers, and `firsts` (n,) by place the first row with the same id. For
    every other row, by its number, `faults` holds the reason and `broken_rules` the rule (pool.rows.RULES). `mapped`
    are the columns that are wholly stored as texts. Without a `layout` no row can be used: `missing` names the columns
    that one needs, and `refused` says so in words.
    """

    records: Records = field(repr=False)
    layout: str
    mapped: frozenset[str]
    parts: Parts[pa.Table] = field(repr=False)
    rows: Rows = field(repr=False)
    firsts: Rows = field(repr=False)
    faults: Mapping[int, str]
    broken_rules: Mapping[int, str]
    missing: tuple[str, ...] = ()
    refused: str = ""

    @property
    def table(self) -> pa.Table:
        """All parts in one, in memory."""
        return pa.concat_tables(self.parts)


def parse(file: PoolFile, columns: Columns, scratch: str | None = None) -> ParsedPool:
    """Read every row of a pool; columns that `columns` does not name are recognised by the layouts in common use.

    Parts of a large file are put aside in the folder `scratch`, or where temporary files are.
    Raises PoolError where the file is damaged as a whole, has no rows, or is to have one column in two roles; and where
    one of several has no column that its rows are read by.
    """
    spill = Spill(scratch)
    return parse_records(read(file, spill, columns), columns, file.location, spill)


def read(file: PoolFile, spill: Spill | None = None, columns: Columns | None = None) -> Records:
    """The records of a file, or of several; raises PoolError where one is damaged as a whole, or has no rows.

    Files of a folder or a pattern that have no rows are passed over, unless none has any.

    Parameters: `spill`, where the values of large files are put aside; `columns`, if each of several files is to have
    one of the columns that rows are read by.
    """
    spill = spill or Spill()
    if not file.parts:
        return read_records(file.data, file.location, file.form, spill)
    names, parts, rows = _distinct_names(file.parts), list[tuple[str, Records]](), 0
    for part in file.parts:
        try:
            records = read_records(part.data, part.location, part.form, spill)
        except NoRows:
            if not part.may_be_empty:
                raise
            continue
        rows += len(records.rows)
        parts.append((names[part.location], in_parts(records, spill) if rows > PART_ROWS else records))
    if not parts:
        raise PoolError(
            f"{shown_name(file.location)} holds only files without rows. Check how they were written or fetched."
        )
    if columns is not None:
        refuse_strangers(((name, part.columns) for name, part in parts if part.rows), columns, file.location)
    return join_records(parts, shown_name(file.location), spill)


def _distinct_names(parts: Sequence[PoolFile]) -> dict[str, str]:
    """The name of each file by its location: without the folder, unless another file has the same name."""
    files = {part.location: part.name for part in parts}
    repeated = {name for name, count in Counter(files.values()).items() if count > 1}
    return {location: shown_name(location) if name in repeated else name for location, name in files.items()}


def parse_records(records: Records, columns: Columns, location: str, spill: Spill | None = None) -> ParsedPool:
    """Read every record; raises PoolError where one column is to have two roles."""
    faults, broken_rules = dict(records.faults), dict.fromkeys(records.faults, READABLE)
    usable = _UsableRows(spill or Spill())
    try:
        layouts = recognise(records.columns, columns, location) if records.rows else ()
    except ColumnsMissing as error:
        refused, missing = error.args
        faults |= dict.fromkeys(records.rows, f"no column {join_names(map(repr, missing))}")
        return ParsedPool(records, "", frozenset(), *usable.all(), faults, broken_rules, missing, refused)
    used: Counter[str] = Counter()
    stored: list[frozenset[str | None]] = []  # of the usable rows
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
        usable.add(row, *valid)
    parts, rows, firsts = usable.all()
    name = " and ".join(used) or (layouts[0].name if layouts else "")
    mapped = _mapped(records, layouts, rows, stored)
    others = {name: column for name, column in records.columns.items() if name not in mapped}
    return ParsedPool(replace(records, columns=others), name, mapped, parts, rows, firsts, faults, broken_rules)


class _UsableRows:
    """The rows whose texts can be used, as they come; in parts, for Python's objects take twice the memory."""

    def __init__(self, spill: Spill) -> None:
        self._parts: Parts[pa.Table] = Parts(spill)
        self._texts: list[list[Any]] = [[] for _ in POOL]
        self._rows, self._digests = array("q"), bytearray()

    def add(self, row: int, instruction: str, input: str | None, output: str | None) -> None:
        """Add a row."""
        if len(self._texts[0]) == PART_ROWS:
            self._put_aside()
        values = row_id(instruction, input), row, instruction, input, output
        for column, value in zip(self._texts, values, strict=True):
            column.append(value)

    def all(self) -> tuple[Parts[pa.Table], Rows, Rows]:
        """The parts, the numbers of their rows, and by place the first row with the same id."""
        self._put_aside()
        rows: Rows = np.array(self._rows, dtype=np.int64)
        return self._parts, rows, first_places(as_digests(self._digests))

    def _put_aside(self) -> None:
        self._rows.extend(self._texts[1])
        self._digests += bytes.fromhex("".join(self._texts[0]))
        self._parts.append(pa.table(self._texts, schema=POOL))  # in several chunks where texts are very long
        self._texts = [[] for _ in POOL]


def _cells(records: Records, layouts: Sequence[Layout]) -> Iterator[Cells]:
    """Of each record the values of the columns that a layout reads."""
    names = list(dict.fromkeys(name for layout in layouts for name in layout.columns))
    columns = [one_by_one(records.columns[name]) for name in names]
    if records.missing:
        columns = [map(_present, column, records.missing) for column in columns]
    return (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))


def _present(value: Any, missing: frozenset[str]) -> Any:
    """The value, or None for a text that stands for a missing one."""
    return None if isinstance(value, str) and value.strip() in missing else value


def _mapped(
    records: Records, layouts: Sequence[Layout], rows: Rows, stored: Sequence[frozenset[str | None]]
) -> frozenset[str]:
    """The columns whose values are all stored as texts, so that they need not be carried as well.

    `stored` are those of each of the `rows`.
    """
    names = frozenset(name for columns in set(stored) for name in columns if name is not None)
    if len(set(stored)) > 1:
        usable = zip(rows.tolist(), stored, strict=True)
        next_row, columns = next(usable)
        for row, cells in zip(records.rows, _cells(records, layouts), strict=True):
            if row == next_row:
                names -= {name for name in names - columns if not is_missing(cells[name])}
                next_row, columns = next(usable, (0, columns))  # no row has the number 0
    return names
