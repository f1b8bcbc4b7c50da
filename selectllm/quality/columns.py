"""Whether a table has the columns that a judgement looks at: without them, nothing else can be said of it."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import pandas as pd
import pyarrow as pa

from selectllm.quality.engine import Found, Rule, judge

Wanted: TypeAlias = Mapping[str, Callable[[pa.DataType], bool]]

_RULE: Final = Rule(
    "columns", "expect_column_values_to_be_in_set", {"column": "as_expected", "value_set": [True]}, "critical"
)


def judge_named(there: Mapping[str, bool]) -> Found:
    """Judge columns by name, each of which is as it is wanted, or is not."""
    return judge(pd.DataFrame({"column": there.keys(), "as_expected": there.values()}), "column", [_RULE])[0]


def judge_columns(table: pa.Table, wanted: Wanted) -> Found:
    """Judge whether each wanted column is there once, of its type, and without nulls."""

    def holds(name: str, fits: Callable[[pa.DataType], bool]) -> bool:
        if table.column_names.count(name) != 1:
            return False
        return fits(table[name].type) and table[name].null_count == 0

    return judge_named({name: holds(name, fits) for name, fits in wanted.items()})
