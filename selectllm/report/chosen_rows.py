"""Says in words which rows were chosen, and why; no text of a pool reaches a terminal or a page as it is."""

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from selectllm.text import fit_line

SHOWN: Final = 20
"""Rows of a selection that are shown; the file has them all."""

_SHOWN_COLUMNS: Final = ["order", "instruction", "picked_by", "query_id", "rank", "round", "score", "reason"]

_REASONS: Final = {
    "random": "drawn at random",
    "length": "by length",
    "cluster": "drawn from its cluster",
    "distance": "far from rows chosen before",
    "cover": "stands for many rows",
    "ball": "many rows lie around it",
    "novelty": "novel beside rows chosen before",
    "wording": "by its wording",
}
"""What the reasons of our strategies without a model mean."""

REASON_WIDTH: Final = 400
"""Columns of a row's reasons on a page: how it was chosen, and all that a model says of it."""


def reason_text(row: Mapping[str, Any]) -> str:
    """Why a row of a selection was chosen."""
    reason = fit_line(row["picked_by"], 40)  # another package's strategy may give any
    if row["query_id"] is None:
        return _REASONS.get(reason, reason)
    if reason == "rating":
        rank = "" if row["rank"] is None else f", ranked {row['rank']} in query {row['query_id']}"
        return f"rated {row['score']:+.2f}{rank}"
    decided_by = {"rank": "", "tournament": f", tournament round {row['round']}", "score": ", by score"}
    return f"ranked {row['rank']} in query {row['query_id']}{decided_by.get(reason, f', by {reason}')}"


def shown_rows(selection: pa.Table, width: int = 120, why_width: int = REASON_WIDTH) -> list[dict[str, Any]]:
    """The first rows of a selection: order, why, instruction; a model's own reason stands before how it was chosen."""
    columns = [name for name in _SHOWN_COLUMNS if name in selection.column_names]  # not all have a score, or reasons
    rows = selection.slice(0, SHOWN).select(columns).to_pylist()
    return [
        {"order": row["order"], "why": _why(row, why_width), "instruction": fit_line(row["instruction"], width)}
        for row in rows
    ]


def _why(row: Mapping[str, Any], width: int) -> str:
    reason = row.get("reason")
    return fit_line(f"{reason} ({reason_text(row)})", width) if reason else reason_text(row)
