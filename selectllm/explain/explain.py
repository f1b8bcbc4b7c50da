"""Follows one row through the tables of a run."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import UsageError
from selectllm.explain.decision import decision_on
from selectllm.explain.explanation import Candidate, Decision, Explanation
from selectllm.explain.lineage import Lineage, where
from selectllm.explain.replies import answers_about, rounds_of
from selectllm.store import Store

SHORTEST: Final = 4
"""Hex digits of an id that are enough to name it, where no other begins with them."""

NAMED: Final = 5
"""Ids that an error names."""


def explain(store: Store, id: str, run: str | None = None) -> Explanation:
    """Explain what became of a row in a run, by default the latest.

    Parameters: `id` is a row's id, or its first digits where no other row's begins so, or `row:17` for a row of the
    pool's file; `run` is the name of a record of the store's `runs`.
    Raises UsageError when there is no such run or row, StoreError when one of the run's tables is gone or damaged.
    """
    trail = Lineage(store, run)
    pool = trail.read("pool")
    if (number := re.fullmatch(r"row:([0-9]{1,18})", id)) is None:
        return _of_kept(trail, pool, where(pool, "id", _with_id(pool["id"], id))[0])
    row = int(number[1])
    if kept := where(pool, "row", row):
        return _of_kept(trail, pool, kept[0])
    left_out = where(trail.read("quarantine"), "row", row)
    if not left_out:
        raise UsageError(f"run {trail.run} read no row {row}: rows are counted from 1, as the pool's file has them")
    reason, text = left_out[0]["reason"], left_out[0]["text"]
    if (of := re.fullmatch(r"duplicate of row ([0-9]+)", reason)) and (kept := where(pool, "row", int(of[1]))):
        return replace(_of_kept(trail, pool, kept[0]), repeat=row)
    return Explanation(
        trail.run, trail.selection.rows, trail.model, row, None, text, Decision(False, "quarantined", reason)
    )


def _of_kept(trail: Lineage, pool: pa.Table, row: Mapping[str, Any]) -> Explanation:
    """The way of a row that came into the pool."""
    id, queries = row["id"], trail.read("queries")
    placed = where(queries, "id", id)
    query_id = placed[0]["query_id"] if placed else -1
    members = {one["id"] for one in where(queries, "query_id", query_id)}
    ranks = {one["id"]: one for one in where(trail.read("rankings"), "query_id", query_id)}
    standings = trail.read("tournament").to_pylist() if trail.has("tournament") else []
    answers = answers_about(trail, id, members, ranks, standings)
    return Explanation(
        run=trail.run,
        selected=trail.selection.rows,
        model=trail.model,
        row=row["row"],
        id=id,
        instruction=row["instruction"],
        decision=decision_on(trail, id, ranks.get(id), bool(ranks), standings),
        input=row["input"],
        query_id=query_id if placed else None,
        rank=ranks[id]["rank"] if id in ranks else None,
        candidates=_candidates(pool, members, ranks, set(trail.read("selection")["id"].to_pylist())),
        answers=answers,
        rounds=rounds_of(id, standings, answers),
    )


def _candidates(
    pool: pa.Table, ids: Collection[str], ranks: Mapping[str, Mapping[str, Any]], chosen: Collection[str]
) -> tuple[Candidate, ...]:
    rows = pool.filter(pc.is_in(pool["id"], value_set=pa.array(ids, pa.string()))).to_pylist()
    found = [
        Candidate(
            id=row["id"],
            row=row["row"],
            instruction=row["instruction"],
            rank=rank["rank"] if (rank := ranks.get(row["id"])) else None,
            score=rank["score"] if rank else None,
            chosen=row["id"] in chosen,
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda one: (one.rank is None, one.rank or 0, one.row)))


def _with_id(ids: pa.ChunkedArray, given: str) -> str:
    """The one id of the pool that is the given one, or begins so."""
    start = given.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{SHORTEST},32}}", start):
        raise UsageError(
            f"{given!r} is no id: give a row's id, or at least its first {SHORTEST} hex digits, or its place in the "
            "pool's file, as in row:17"
        )
    found = ids.filter(pc.starts_with(ids, start)).slice(0, NAMED + 1).to_pylist()
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise UsageError(
            f"no row of the pool has an id that begins with {start}. A row that was left out has none: name it by its "
            "row in the pool's file, as in row:17. For a row of another run's pool, name the run with --run"
        )
    more = " and more" if len(found) > NAMED else ""
    raise UsageError(f"{start} begins several ids: {', '.join(found[:NAMED])}{more}. Give more of its digits")
