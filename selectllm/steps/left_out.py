"""Which rows were left out of a pool, and why: told where a run ends because of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import StoreError, UsageError
from selectllm.pool import first_reasons
from selectllm.settings import RunSettings
from selectllm.store.files import write_atomically
from selectllm.store.tables import to_parquet


def check_budget(settings: RunSettings, usable: int, quarantine: pa.Table) -> None:
    """Raise UsageError, with the first reasons, when the budget is larger than the pool.

    The output folder, if there is one, receives all of them. Raises StoreError when it cannot be written.
    """
    if settings.budget <= usable:
        return
    repeats = pc.sum(pc.starts_with(quarantine["reason"], "duplicate of row ")).as_py() or 0
    read, left_out = usable + len(quarantine), len(quarantine) - repeats
    raise UsageError(
        f"the budget is {settings.budget:,}, but the pool holds {usable:,} usable rows: choose at most as many. "
        f"{read:,} rows were read, {left_out:,} quarantined, {repeats:,} repeated{reasons_text(quarantine)}"
        f"{_written(settings.out, quarantine)}"
    )


def reasons_text(quarantine: pa.Table) -> str:
    """The first reasons, as the end of a sentence; empty where no row was left out."""
    rows = zip(quarantine["row"].to_pylist(), quarantine["reason"].to_pylist(), strict=True)
    return f": {first_reasons(rows)}" if len(quarantine) else ""


def _written(out: str | None, quarantine: pa.Table) -> str:
    if out is None or not len(quarantine):
        return ""
    path = Path(out).expanduser() / "quarantine.parquet"
    try:
        write_atomically(path, to_parquet(quarantine))
    except OSError as error:
        raise StoreError(f"the output folder {out!r} cannot be written: {error.strerror}") from error
    return f". All are in {path}"
