"""Where a judge of quality looks at a pool: after it was understood, and before any row is left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from selectllm.quality.verdicts import Verdict


@dataclass(frozen=True)
class Understood:
    """Every row of a file, as its layout reads it.

    `table()` has the rows whose texts can be used: the columns of schemas.POOL, in the file's order, repeats with the
    same id included. `carried()` has their further columns, by name. `broken` names the rule that each other row
    breaks, by row number. The two tables are made when they are asked for. `missing` names the columns without which no
    row can be read.
    """

    table: Callable[[], pa.Table]
    carried: Callable[[], dict[str, pa.Array | pa.ChunkedArray]]
    broken: Mapping[int, str]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A verdict, and why rows are to be quarantined for it, by row number."""

    verdict: Verdict
    reasons: Mapping[int, str]


Judge: TypeAlias = Callable[[Understood], Judged]
