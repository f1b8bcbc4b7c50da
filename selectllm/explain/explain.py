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

MIN_DIGITS: Final = 4
"""Hex digits of an id that are enough to name it, where no other id begins with them."""

NAMED_IDS: Final = 5
"""Ids that an error names."""


def explain(store: Store, id: str, run: str | None = None) -> Explanation:
    """Explain what became of a row in a run, by default the latest.

    Parameters: `id` is a row's id, or its first digits where no other row's id begins so, or `row:17` for a row of the
    pool's file; `run` is the name of a record of the store's `runs`.
    Raises UsageError when there is no such run or row, StoreError when one of the run's tables is gone or damaged.
    """
    lineage = Lineage(store, run)
    pool = lineage.table("pool")
    if (number := re.fullmatch(r"row:([0-9]{1,18})", id)) is None:
        return _of_kept(lineage, pool, where(pool, "id", _with_id(pool["id"], id))[0])
    row = int(number[1])
    if kept := where(pool, "row", row):
        return _of_kept(lineage, pool, kept[0])
    quarantined = where(lineage.table("quarantine"), "row", row)
    if not quarantined:
        raise UsageError(f"run {lineage.run} read no row {row}: rows are counted from 1, as the pool's file has them")
    reason = quarantined[0]["reason"]
    if (first := re.fullmatch(r"duplicate of row ([0-9]+)", reason)) and (kept := where(pool, "row", int(first[1]))):
        return replace(_of_kept(lineage, pool, kept[0]), repeat=row)
    decision = Decision(chosen=False, why="quarantined", reason=reason)
    return _explanation(lineage, decision, {"row": row, "id": None, "instruction": quarantined[0]["text"]})


def _explanation(lineage: Lineage, decision: Decision, row: Mapping[str, Any], **further: Any) -> Explanation:
    return Explanation(
        run=lineage.run,
        strategy=lineage.strategy,
        selected=lineage.selected,
        model=lineage.model,
        row=row["row"],
        id=row["id"],
        instruction=row["instruction"],
        decision=decision,
        **further,
    )


def _of_kept(lineage: Lineage, pool: pa.Table, row: Mapping[str, Any]) -> Explanation:
    """What became of a row of the pool, in the order of the steps."""
    id = row["id"]
    place = where(lineage.table("queries"), "id", id) if lineage.has("queries") else []
    query_id = place[0]["query_id"] if place else None
    members = {member["id"] for member in where(lineage.table("queries"), "query_id", query_id)} if place else set()
    ranks = where(lineage.table("rankings"), "query_id", query_id) if place else []
    rank_of = {rank["id"]: rank for rank in ranks}
    tournament = lineage.rows("tournament")
    answers = answers_about(lineage, id, members, ranks, tournament)
    return _explanation(
        lineage,
        decision_on(lineage, id, rank_of.get(id), bool(ranks), tournament),
        row,
        input=row["input"],
        query_id=query_id,
        rank=rank_of[id]["rank"] if id in rank_of else None,
        candidates=_candidates(pool, members, rank_of, set(lineage.table("selection")["id"].to_pylist())),
        answers=answers,
        rounds=rounds_of(id, tournament, answers),
    )


def _candidates(
    pool: pa.Table, ids: Collection[str], rank_of: Mapping[str, Mapping[str, Any]], chosen: Collection[str]
) -> tuple[Candidate, ...]:
    candidates = [
        Candidate(
            id=row["id"],
            row=row["row"],
            instruction=row["instruction"],
            rank=rank_of[row["id"]]["rank"] if row["id"] in rank_of else None,
            score=rank_of[row["id"]]["score"] if row["id"] in rank_of else None,
            chosen=row["id"] in chosen,
        )
        for row in pool.filter(pc.is_in(pool["id"], value_set=pa.array(ids, pa.string()))).to_pylist()
    ]
    return tuple(sorted(candidates, key=lambda candidate: (candidate.rank is None, candidate.rank or 0, candidate.row)))


def _with_id(ids: pa.ChunkedArray, text: str) -> str:
    """The one id of the pool that is this text, or begins with it."""
    start = text.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{MIN_DIGITS},32}}", start):
        raise UsageError(
            f"{text!r} is no id: give a row's id, or at least its first {MIN_DIGITS} hex digits, or its place in the "
            "pool's file, as in row:17"
        )
    matches = ids.filter(pc.starts_with(ids, start)).slice(0, NAMED_IDS + 1).to_pylist()
    if len(matches) == 1:
        return str(matches[0])
    if not matches:
        raise UsageError(
            f"no row of the pool has an id that begins with {start}. A row that was left out has none: name it by its "
            "row in the pool's file, as in row:17. For a row of another run's pool, name the run with --run"
        )
    more = " and more" if len(matches) > NAMED_IDS else ""
    raise UsageError(f"{start} begins several ids: {', '.join(matches[:NAMED_IDS])}{more}. Give more of its digits")
