"""What the records of a file say: the texts and id of each one that can be used, and what is wrong with the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import pyarrow as pa

from selectllm.paths import redact_url
from selectllm.pool.extra_columns import extra_column, extra_column_names
from selectllm.pool.formats import read_records
from selectllm.pool.layouts import Columns, ColumnsMissing, Layout, first_user_turn, recognise
from selectllm.pool.records import Records, values
from selectllm.pool.rows import READABLE, InvalidRow, row_id, validate_row
from selectllm.pool.source import PoolFile
from selectllm.schemas import POOL
from selectllm.text import join_names, one_line


@dataclass(frozen=True)
class ParsedPool:
    """Every row of a file, before any is left out.

    `table` has the rows whose texts can be used: the columns of schemas.POOL, in the file's order, repeats with the
    same id included. `is_usable` says of each record whether it is among them. For every other row, by its number,
    `faults` holds the reason and `broken_rules` the rule (pool.rows.RULES). Without a `layout` no row can be used:
    `missing` names the columns that one needs, and `refused` says so in words.
    """

    records: Records = field(repr=False)
    layout: Layout | None
    table: pa.Table = field(repr=False)
    is_usable: Sequence[bool] = field(repr=False)
    faults: Mapping[int, str]
    broken_rules: Mapping[int, str]
    missing: tuple[str, ...] = ()
    refused: str = ""

    def extra_columns(self, keep: Sequence[bool]) -> dict[str, pa.Array | pa.ChunkedArray]:
        """The kept values of the columns that go along to the selection, by their new names, in the file's order.

        `keep` says of each record whether it is kept.
        """
        mapped = self.layout.mapped if self.layout else set()
        names = extra_column_names(name for name in self.records.columns if name not in mapped)
        return {new: extra_column(self.records.columns[old], keep) for old, new in names.items()}


def parse(file: PoolFile, columns: Columns) -> ParsedPool:
    """Read every row of a file; columns that `columns` does not name are recognised by the layouts in common use.

    Raises PoolError where the file is damaged as a whole, has no rows, or is to have one column in two roles.
    """
    records = read_records(file.data, file.location)
    if not records.rows:
        return _without_layout(records, (), "")
    try:
        layout = recognise(records.columns, columns, one_line(redact_url(file.location)))
    except ColumnsMissing as error:
        return _without_layout(records, error.columns, error.fault)
    return parse_rows(records, layout)


def parse_rows(records: Records, layout: Layout) -> ParsedPool:
    """Read every record as `layout` says."""
    columns: list[list[Any]] = [[] for _ in POOL]
    is_usable = []
    faults, broken_rules = dict(records.faults), dict.fromkeys(records.faults, READABLE)
    instructions = values(records.columns[layout.instruction])
    inputs = repeat(None) if layout.input is None else values(records.columns[layout.input])
    outputs = repeat(None) if layout.output is None else values(records.columns[layout.output])
    for row, instruction, input_, output in zip(records.rows, instructions, inputs, outputs, strict=False):
        try:
            first = first_user_turn(instruction) if layout.name == "messages" else instruction
            texts = validate_row(first, input_, output)
        except InvalidRow as invalid:
            faults[row], broken_rules[row] = str(invalid), invalid.rule
            is_usable.append(False)
            continue
        for column, value in zip(columns, (row_id(texts[0], texts[1]), row, *texts), strict=True):
            column.append(value)
        is_usable.append(True)
    return ParsedPool(records, layout, _table(columns), is_usable, faults, broken_rules)


def _without_layout(records: Records, missing: tuple[str, ...], refused: str) -> ParsedPool:
    """What is left to say of records without the columns that their texts were to come from."""
    reason = f"no column {join_names(map(repr, missing))}"
    return ParsedPool(
        records,
        layout=None,
        table=_table([[] for _ in POOL]),
        is_usable=[False] * len(records.rows),
        faults=records.faults | dict.fromkeys(records.rows, reason),
        broken_rules=dict.fromkeys(records.faults, READABLE),
        missing=missing,
        refused=refused,
    )


def _table(columns: Sequence[list[Any]]) -> pa.Table:
    arrays = [pa.array(column, column_field.type) for column, column_field in zip(columns, POOL, strict=True)]
    return pa.Table.from_arrays(arrays, schema=POOL)
