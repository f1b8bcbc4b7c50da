"""The model's replies about the first chosen rows, as they came; a page holds as many as it has room for."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.llm.ledger_lines import Entry
from selectllm.llm.ledger_parts import read_lines
from selectllm.report.page.packed import pack_largest
from selectllm.report.page.source import RunSource
from selectllm.report.page.texts import cut
from selectllm.store import digest

MOST_ROWS: Final = (2000, 1000, 500, 250, 100, 50, 20, 5, 0)
"""Of how many chosen rows a page shows the replies: the first of these numbers at which they fit."""

MOST_BYTES: Final = 200_000
"""Bytes that the replies take in a page at most."""

REPLY_LENGTH: Final = 2000
"""Characters of a reply, or of the thinking before it, that a page shows."""

_KEY: Final = re.compile(rb'\{"key":"([0-9a-f]+)"')


@dataclass(frozen=True)
class Replies:
    """Replies packed for the page: of how many rows, and how many replies they are."""

    packed: str
    rows: int
    count: int


def read_replies(source: RunSource, ids: Sequence[str]) -> Replies | None:
    """The replies that the preferences of these rows rest on; None where no model ranked, or the ledger is not there.

    Parameters: `ids`, those of the chosen rows, in their order.
    """
    ids = ids[: MOST_ROWS[0]]
    keys_of = _keys(source, ids)
    entries = _entries(source, {key for keys in keys_of.values() for key in keys})
    if not entries:
        return None

    def first(rows: int) -> dict[str, Any]:
        keys = dict.fromkeys(key for id in ids[:rows] for key in keys_of.get(id, ()) if key in entries)
        number = {key: place for place, key in enumerate(keys)}
        of_rows = [
            [[number[key], _position(entries[key], id)] for key in keys_of.get(id, ()) if key in number]
            for id in ids[:rows]
        ]
        return {"replies": [_shown(entries[key]) for key in keys], "rows": of_rows}

    sizes = [len(ids), *(rows for rows in MOST_ROWS if rows < len(ids))]
    packed, rows = pack_largest(first, sizes, MOST_BYTES)
    return Replies(packed, rows, len(first(rows)["replies"]))


def _keys(source: RunSource, ids: Sequence[str]) -> dict[str, list[str]]:
    """The keys of the replies about each row; version 0.1 has them with the rankings alone."""
    wanted, found = pa.array(ids, pa.string()), dict[str, list[str]]()
    kind = next((kind for kind in ("preferences", "rankings") if source.has(kind, "id", "reply")), None)
    for batch in source.batches(kind, "id", "reply") if kind else ():
        rows = batch.filter(pc.is_in(batch["id"], value_set=wanted))
        for id, keys in zip(rows["id"].to_pylist(), rows["reply"].to_pylist(), strict=True):
            found[id] = [key for key in (keys or "").split(",") if key]
    return found


def _entries(source: RunSource, keys: Collection[str]) -> dict[str, Entry]:
    """The ledger's lines of these keys; of two replies to one question the earlier counts, here as everywhere."""
    models = [manifest.settings.get("model") for manifest in source.manifests.values()]
    folders = {f"replies/{digest(model)}" for model in models if isinstance(model, str)}
    wanted = {key.encode() for key in keys}
    found: dict[str, Entry] = {}
    for folder in sorted(folders) if wanted else ():
        for line in read_lines(source.store, folder):
            if (match := _KEY.match(line)) is None or match[1] not in wanted:
                continue
            entry = Entry.parse(line)
            if entry and (entry.key not in found or entry.at < found[entry.key].at):
                found[entry.key] = entry
    return found


def _position(entry: Entry, id: str) -> int:
    """The position, from 1, at which the prompt showed a row; 0 where it did not."""
    return entry.shown.index(id) + 1 if id in entry.shown else 0


def _shown(entry: Entry) -> dict[str, Any]:
    reply = entry.reply
    shown = {
        "question": cut(entry.question, 100),
        "outcome": cut(entry.outcome, 60),
        "attempt": entry.attempt,
        "shown": len(entry.shown),
        "text": cut(reply.text, REPLY_LENGTH),
        "read": reply.prompt_tokens,
        "written": reply.output_tokens,
    }
    return shown | ({"thinking": cut(reply.thinking, REPLY_LENGTH)} if reply.thinking else {})
