"""Parquet, column by column: values become Python objects only where they are read as text."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.pool.records import Records, values
from selectllm.store.tables import from_parquet
from selectllm.text import join_names, json_text, short_error


def read_parquet(data: bytes, location: str) -> Records:
    """Parquet; rows are numbered from 1, columns keep their Arrow types, and no row can be at fault."""
    try:
        table = from_parquet(data)
        table.schema.to_string()  # decodes every name: Arrow does not check that names are UTF-8
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PoolError(
            f"{location} is not a Parquet file that can be read: {short_error(error)}. Fetch or write it again."
        ) from error
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise PoolError(f"{location} names columns twice: {join_names(twice)}. Give each column a name of its own.")

    def texts(rows: Sequence[int]) -> list[str]:
        chosen = table.take(pa.array([row - 1 for row in rows], pa.int64()))
        columns = [values(column) for column in chosen.columns]
        return [json_text(dict(zip(table.column_names, row, strict=True))) for row in zip(*columns, strict=True)]

    columns = dict(zip(table.column_names, table.columns, strict=True))
    return Records(list(range(1, table.num_rows + 1)), columns, {}, texts)
