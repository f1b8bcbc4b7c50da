"""The output folder of a run: the selection, the quarantine and the summary, for people and other programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from selectllm.errors import StoreError
from selectllm.pool.json_lines import json_lines
from selectllm.store.files import remove_stale_temp_files, temporary_pattern, write_atomically
from selectllm.store.tables import to_parquet


def write_folder(folder: Path, selection: pa.Table, quarantine: pa.Table, summary: Mapping[str, Any]) -> None:
    """Write the files, the summary last: where it is, the others are its own. Raises StoreError when it cannot."""
    if selection["output"].null_count == len(selection):
        selection = selection.drop_columns("output")
    files = {
        "selection.parquet": to_parquet(selection),
        "selection.jsonl": json_lines(selection),
        "quarantine.parquet": to_parquet(quarantine),
        "summary.json": json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n",
    }
    try:
        (folder / "summary.json").unlink(missing_ok=True)
        for name, content in files.items():
            remove_stale_temp_files(folder.glob(temporary_pattern(name)))
            write_atomically(folder / name, content)
    except OSError as error:
        raise StoreError(f"the output folder {str(folder)!r} cannot be written: {error.strerror}") from error
