"""What the records of a file say: the texts and id of each one that can be used, and what is wrong with the rest."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

import pyarrow as pa

from selectllm.pool.layouts import Layout, first_user_turn
from selectllm.pool.records import Records, values
from selectllm.pool.rows import READABLE, Unusable, row_id, usable
from selectllm.schemas import POOL
from selectllm.text import join_names


@dataclass(frozen=True)
class Texts:
    """The rows that can be used, in the file's order: row numbers, ids (repeats included) and texts.

    `usable` says of each record whether it is among them. For every other row, by its number, `faults` holds the
    reason and `broken` the rule (pool.rows.RULES).
    """

    usable: list[bool] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    inputs: list[str | None] = field(default_factory=list)
    outputs: list[str | None] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)

    def table(self) -> pa.Table:
        """The rows as a table of the schema POOL."""
        columns = [self.ids, self.rows, self.instructions, self.inputs, self.outputs]
        arrays = [pa.array(column, one.type) for column, one in zip(columns, POOL, strict=True)]
        return pa.Table.from_arrays(arrays, schema=POOL)


def understand(records: Records, layout: Layout) -> Texts:
    """Read every record as `layout` says."""
    texts = Texts(faults=dict(records.faults), broken=dict.fromkeys(records.faults, READABLE))
    instructions = values(records.columns[layout.instruction])
    inputs = repeat(None) if layout.input is None else values(records.columns[layout.input])
    outputs = repeat(None) if layout.output is None else values(records.columns[layout.output])
    for row, instruction, input_, output in zip(records.rows, instructions, inputs, outputs, strict=False):
        asked = instruction
        try:
            if layout.name == "messages":
                asked = first_user_turn(instruction)
            asked, given, answer = usable(asked, input_, output)
        except Unusable as unusable:
            texts.usable.append(False)
            texts.faults[row], texts.broken[row] = str(unusable), unusable.rule
            continue
        texts.usable.append(True)
        texts.rows.append(row)
        texts.ids.append(row_id(asked, given))
        texts.instructions.append(asked)
        texts.inputs.append(given)
        texts.outputs.append(answer)
    return texts


def not_understood(records: Records, missing: Sequence[str]) -> Texts:
    """What is left to say of records without the columns that their texts were to come from."""
    return Texts(
        usable=[False] * len(records.rows),
        faults=records.faults | dict.fromkeys(records.rows, f"no column {join_names(map(repr, missing))}"),
        broken=dict.fromkeys(records.faults, READABLE),
    )
