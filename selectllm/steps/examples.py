"""Files of rows beside the pool: examples of what to choose, and tests to keep away from."""

import logging
from dataclasses import dataclass

import pyarrow as pa

from selectllm import pool
from selectllm.paths import redact_url
from selectllm.pool import Columns
from selectllm.settings import RunSettings
from selectllm.store import digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """The rows of a file that have an instruction, without repeats: `table` as POOL, and a digest of what decides it.

    `location` is the file as messages may show it, `unusable` how many rows have no instruction that can be read.
    """

    location: str
    digest: str
    table: pa.Table
    unusable: int

    def place(self, number: int) -> str:
        """Where a row of the table, by its number from 0, stands in the file: `row 17`."""
        row = self.table.slice(number, 1).to_pylist()[0]
        return f"{row['pool_file']}, row {row['pool_row']}" if row.get("pool_file") else f"row {row['row']}"


def read_examples(settings: RunSettings, location: str) -> Examples:
    """Read a file in any format of a pool, by the pool's columns; raises PoolError where no row has an instruction.

    Rows that would make poor instructions count as well: they are not to be chosen, but to be compared with.
    """
    file, columns = pool.fetch(location), Columns(**settings.columns.model_dump())
    rows = pool.partition(pool.parse(file, columns), {})
    if rows.refused:
        raise pool.refusal((location,), rows.refused)
    if rows.quarantined:
        reasons = pool.first_reasons(
            (row["row"], row["reason"])
            for row in rows.quarantine.to_pylist()
            if not row["reason"].startswith("duplicate of row ")
        )
        log.warning("%d rows of %s cannot be used: %s", rows.quarantined, redact_url(location), reasons)
    content = digest(file.digest, file.form, settings.columns.model_dump())
    return Examples(redact_url(location), content, rows.table, rows.quarantined)
