"""A pool held to a user's own expectations, which only Great Expectations can evaluate."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.pool import ParsedPool
from selectllm.pool.records import values
from selectllm.quality.engine import CannotValidate, evaluate
from selectllm.quality.own_expectations import Suite
from selectllm.quality.quiet import quiet
from selectllm.quality.rules import RuleResult

if TYPE_CHECKING:
    import pandas as pd


def check_own(parsed: ParsedPool, suite: Suite) -> list[RuleResult]:
    """Hold the rows whose texts can be used to a suite, with the file's further columns.

    Raises UsageError where the suite does not fit the pool.
    """
    with quiet():
        import pandas as pd

    columns = dict(zip(parsed.table.column_names, parsed.table.columns, strict=True))
    columns |= parsed.extra_columns(parsed.is_usable)
    suite.check_columns(columns)
    frame = pd.DataFrame({name: _series(column) for name, column in columns.items()})
    try:
        return evaluate(frame, "row", suite.rules)
    except CannotValidate as error:
        raise UsageError(f"{suite.path}: {error}. Mend the expectation") from error


def _series(column: pa.Array | pa.ChunkedArray) -> "pd.Series[Any]":
    import pandas as pd

    try:
        series: pd.Series[Any] = column.to_pandas(use_threads=False)
    except (pa.ArrowException, ValueError, OverflowError):  # what pandas cannot hold
        series = pd.Series(values(pa.chunked_array(column)), dtype=object)
    return series
