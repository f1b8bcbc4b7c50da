"""The chosen rows as the page's table has them: as much of each text as all of them together leave room for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.report.chosen_rows import reason_text
from selectllm.report.page.packed import pack_largest
from selectllm.report.page.pool_facts import PoolFacts
from selectllm.report.page.source import RunSource
from selectllm.report.page.texts import cut, labels, visible

MOST_ROWS: Final = 20_000
"""Chosen rows that the table holds, the first of the selection; the selection's own file has them all."""

TEXT_LENGTHS: Final = (4000, 2000, 1000, 500, 350, 250, 180, 120, 90, 60, 30, 0)
"""Characters of a text that the table holds: the first of these numbers at which all rows fit."""

MOST_BYTES: Final = 1_450_000
"""Bytes that the table takes in a page at most."""

ID_DIGITS: Final = 12
"""Digits of an id that the table holds: enough to name it, as `selectllm explain` takes it."""

STATIC_ROWS: Final = 20
"""Rows that are there without scripts as well."""

_READ: Final = ("id", "instruction", "input", "score", "query_id", "rank", "round", "picked_by")


@dataclass(frozen=True)
class ChosenRows:
    """The first chosen rows, packed for the page: how many, and how many characters of each text.

    `first` are a few of them as they are, `ids` those of all of them; `columns` name the groups that they have.
    """

    packed: str
    count: int
    text_length: int
    first: tuple[Mapping[str, Any], ...]
    ids: list[str]
    columns: tuple[str, ...]


def read_chosen(source: RunSource, pool: PoolFacts | None, columns: Sequence[str]) -> ChosenRows:
    """Read the first chosen rows, with these carried columns as far as the selection has them."""
    names = [name for name in _READ if source.has("selection", name)]
    carried = [name for name in columns if source.has("selection", name)]
    read: dict[str, list[Any]] = {name: [] for name in (*names, *carried)}
    lengths: list[int] = []
    for batch in source.batches("selection", *names, *carried):
        part = batch.slice(0, MOST_ROWS - len(read["id"]))
        for name in read:
            texts = part[name]
            if name in ("instruction", "input"):
                # A text may be as large as a file, and begin with as much space.
                texts = pc.utf8_slice_codeunits(pc.utf8_ltrim_whitespace(texts), 0, TEXT_LENGTHS[0] + 1)
            read[name] += texts.to_pylist()
        whole = [pc.fill_null(pc.utf8_length(part[name]), 0).to_pylist() for name in ("instruction", "input")]
        lengths += [sum(pair) for pair in zip(*whole, strict=True)]
        if len(read["id"]) >= MOST_ROWS:
            break
    ids: list[str] = read["id"]
    fixed = _fixed(source, pool, read) | {"length": lengths}
    fixed["by"] = _coded(read["picked_by"])
    fixed["groups"] = [_coded(read[name]) for name in carried]

    def table(limit: int) -> dict[str, Any]:
        texts = {"text": [cut(text, limit) for text in read["instruction"]]}
        if any(read["input"]):
            texts["input"] = [cut(text or "", limit) for text in read["input"]]
        return fixed | texts

    packed, limit = pack_largest(table, _lengths_to_try(lengths), MOST_BYTES)
    return ChosenRows(packed, len(ids), limit, tuple(_first(table(limit))), ids, tuple(labels(carried)))


def _fixed(source: RunSource, pool: PoolFacts | None, read: dict[str, list[Any]]) -> dict[str, Any]:
    """What the table holds of each row, whatever room there is for texts."""
    ids = read["id"]
    numbers: list[int | None] = [None] * len(ids)
    if pool is not None:
        places = pc.index_in(pa.array(ids, pa.string()), value_set=pool.ids).to_pylist()
        numbers = [None if place is None else int(pool.numbers[place]) for place in places]
    rows = [dict(zip(read, values, strict=True)) for values in zip(*read.values(), strict=True)]
    fixed: dict[str, Any] = {
        "id": [id[:ID_DIGITS] for id in ids],
        "row": numbers,
        "why": [visible(reason_text({"score": None, **row})) for row in rows],
    }
    if any(score is not None for score in read.get("score", ())):
        fixed["score"] = [None if score is None else _short(score) for score in read["score"]]
    if source.has("reasons", "id", "reason"):
        told = {row["id"]: row["reason"] for row in source.table("reasons", "id", "reason").to_pylist()}
        fixed["reason"] = [cut(told.get(id) or "", TEXT_LENGTHS[2]) for id in ids]
    return fixed


def _lengths_to_try(lengths: Sequence[int]) -> list[int]:
    """Lengths at which the table may fit: each compresses to about a third, and none to less than a twentieth."""
    return [
        limit for limit in TEXT_LENGTHS if sum(min(length, limit) for length in lengths) < 20 * MOST_BYTES or not limit
    ]


def _coded(values: Sequence[Any]) -> dict[str, Any]:
    """Few different values as their names, and the number of its name for each row."""
    number = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"names": labels(number), "codes": [number[value] for value in values]}


def _first(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = {name: values for name, values in table.items() if name not in ("by", "groups")}
    return [
        {name: values[place] for name, values in columns.items()} for place in range(min(STATIC_ROWS, len(table["id"])))
    ]


def _short(score: float) -> float | None:
    return float(f"{score:.4g}") if score == score and abs(score) != float("inf") else None
