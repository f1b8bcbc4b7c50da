"""Whether a table has the columns that the other rules look at: without them, nothing else can be said of it."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from selectllm.quality.rules import FactTable, allow

Expected: TypeAlias = Mapping[str, Callable[[pa.ChunkedArray], bool]]
"""The columns that a table must have, by name, and whether one is as it must be."""

COLUMNS: Final = allow("columns", "as_expected", True, reason="columns are missing or not of their type")


def named_columns(as_expected: Mapping[str, bool]) -> FactTable:
    """The facts about columns by name, each of which is as expected, or is not."""
    facts = {
        "column": np.array(list(as_expected), dtype=object),
        "as_expected": np.array(list(as_expected.values()), dtype=bool),
    }
    return FactTable("column", facts, (COLUMNS,))


def table_columns(table: pa.Table, expected: Expected) -> FactTable:
    """The facts about the columns of a table, each of which must be there once."""
    return named_columns(
        {
            name: table.column_names.count(name) == 1 and is_expected(table[name])
            for name, is_expected in expected.items()
        }
    )


def of_type(is_type: Callable[[pa.DataType], bool]) -> Callable[[pa.ChunkedArray], bool]:
    """A column of a type, without nulls."""
    return lambda column: is_type(column.type) and column.null_count == 0


def of_schema(schema: pa.Schema) -> Expected:
    """The columns of a schema, without nulls where it allows none."""

    def is_expected(field: pa.Field) -> Callable[[pa.ChunkedArray], bool]:
        return lambda column: column.type == field.type and (field.nullable or column.null_count == 0)

    return {field.name: is_expected(field) for field in schema}
