"""Follows one row through the tables of a run."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import UsageError
from selectllm.explain.explanation import Candidate, Decision, Explanation, Near
from selectllm.explain.lineage import Lineage, Row, answers_about, looks_of, rounds_of, where
from selectllm.store import Store

MIN_DIGITS: Final = 4
"""Hex digits of an id that are enough to name it, where no other id begins with them."""

NAMED_IDS: Final = 5
"""Ids that an error names."""


def explain(store: Store, id: str, run: str | None = None) -> Explanation:
    """Explain what became of a row in a run, by default the latest.

    Parameters: `id`, a row's id, or its first digits where no other id begins so, or `row:17` for a row of the file;
    `run`, the name of a record of the store's `runs`.
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
    origin = _origin(quarantined[0])
    return _explanation(lineage, decision, row=row, id=None, instruction=quarantined[0]["text"], origin=origin)


def _explanation(lineage: Lineage, decision: Decision, **further: Any) -> Explanation:
    run = {name: getattr(lineage, name) for name in ("run", "strategy", "selected", "model")}
    return Explanation(**run, decision=decision, **further)


def _origin(row: Row) -> str:
    """Where a row of a pool of several files came from."""
    return f"{row['pool_file']}, row {row['pool_row']}" if row.get("pool_file") else ""


def _of_kept(lineage: Lineage, pool: pa.Table, row: Row) -> Explanation:
    """What became of a row of the pool, in the order of the steps."""
    id = row["id"]
    place = where(lineage.table("queries"), "id", id) if lineage.has("queries") else []
    query_id = place[0]["query_id"] if place else None
    members = {member["id"] for member in where(lineage.table("queries"), "query_id", query_id)} if place else set()
    ranks = where(lineage.table("rankings"), "query_id", query_id) if place else []
    rank_of = {rank["id"]: rank for rank in ranks}
    tournament = lineage.rows("tournament")
    looks = lineage.rows("looks")
    alone = where(lineage.table("row_ratings"), "id", id) if lineage.has("row_ratings") else []
    answers = answers_about(lineage, id, {*members, id}, [*ranks, *alone], tournament or looks)
    rated = where(lineage.table("ratings"), "id", id) if lineage.has("ratings") else []
    target = lineage.target_of(id)
    if target and target.place is None:
        decision = Decision(chosen=False, why="off_target")
    elif lineage.spread or rated or lineage.has("strata") or lineage.is_by_place:
        decision = _placed_decision(lineage, pool, id, bool(ranks))
        is_judged = bool(alone) or id in rank_of or any(row["answers"] for row in rated)
        if decision.why == "abstained" and is_judged:
            decision = replace(decision, why="unnamed")
    else:
        decision = _decision(lineage, id, rank_of.get(id), bool(ranks), tournament)
    return _explanation(
        lineage,
        decision,
        **{name: row[name] for name in ("row", "id", "instruction", "input")},
        origin=_origin(row),
        query_id=query_id,
        rank=rank_of[id]["rank"] if id in rank_of else None,
        candidates=_candidates(pool, members, rank_of, set(lineage.table("selection")["id"].to_pylist())),
        answers=answers,
        rounds=rounds_of(id, tournament, answers),
        **{name: rated[0][name] for name in ("rating", "spread") if rated},
        looks=looks_of(id, looks),
        scores={row["dimension"]: row["score"] for row in alone},
        target=target,
        reason=next((row["reason"] for row in lineage.rows("reasons") if row["id"] == id), None),
    )


def _candidates(
    pool: pa.Table, ids: Collection[str], rank_of: Mapping[str, Row], chosen: Collection[str]
) -> tuple[Candidate, ...]:
    candidates = []
    for row in pool.filter(pc.is_in(pool["id"], value_set=pa.array(ids, pa.string()))).to_pylist():
        id, rank = row["id"], rank_of.get(row["id"], {})
        candidates.append(
            Candidate(id, row["row"], row["instruction"], rank.get("rank"), rank.get("score"), chosen=id in chosen)
        )
    return tuple(sorted(candidates, key=lambda candidate: (candidate.rank is None, candidate.rank or 0, candidate.row)))


def _placed_decision(lineage: Lineage, pool: pa.Table, id: str, is_answered: bool) -> Decision:
    """Why a row was chosen, or not, by its place among the preferences: with ratings, quotas, or unlike rows."""
    excluded = {row["id"]: row["reason"] for row in lineage.rows("excluded")}
    if id in excluded:
        return Decision(chosen=False, why="excluded", reason=excluded[id])
    if id in lineage.refused_rows:
        return Decision(chosen=False, why="refused")
    open_to_choice = [other for other in lineage.table("preferences")["id"].to_pylist() if other not in excluded]
    place = open_to_choice.index(id) + 1 if id in open_to_choice else None
    decision = Decision(chosen=False, why="place", place=place, spread=lineage.spread)
    decision = replace(decision, share=lineage.share_of(id, open_to_choice))
    if chosen := where(lineage.table("selection"), "id", id):
        return replace(decision, chosen=True, why=chosen[0]["picked_by"], order=chosen[0]["order"])
    for passed in lineage.rows("near_duplicates"):
        if passed["id"] == id:
            (near,) = where(pool, "id", passed["near"])
            return replace(decision, why="passed_over", near=Near(near["row"], near["id"], passed["cosine"]))
    if place:
        return decision
    if not lineage.has("queries") and not lineage.has("row_ratings"):
        return _unnamed(decision)
    is_unranked = is_answered and not lineage.is_pointwise and not lineage.has("ratings")
    return replace(decision, why="unranked" if is_unranked else "abstained")


def _decision(lineage: Lineage, id: str, rank: Row | None, is_answered: bool, tournament: Sequence[Row]) -> Decision:
    """Why a row was chosen, or not, by its rank in its query; `is_answered` says whether any row there has a rank."""
    selection = lineage.table("selection")
    excluded = {row["id"]: row["reason"] for row in lineage.rows("excluded")}
    decision = Decision(chosen=False, why="unknown")
    if lineage.has("rankings"):
        tier = pc.max(selection["rank"]).as_py()
        rows = [row for row in where(lineage.table("rankings"), "rank", tier) if row["id"] not in excluded]
        order = _tier_order(rows, tournament)
        taken = pc.sum(pc.equal(selection["rank"], tier)).as_py()
        place = order.index(id) + 1 if id in order else None
        decision = replace(decision, tier=tier, rows=len(rows), taken=taken, place=place)
    if chosen := where(selection, "id", id):
        return replace(decision, chosen=True, why=chosen[0]["picked_by"], order=chosen[0]["order"])
    if id in excluded:
        return replace(decision, why="excluded", reason=excluded[id])
    if not lineage.has("rankings"):
        preferred = where(lineage.table("preferences"), "id", id)
        return replace(decision, why="place", place=preferred[0]["place"]) if preferred else _unnamed(decision)
    if rank is None and id in lineage.refused_rows:
        return replace(decision, why="refused")
    if rank is None:
        return replace(decision, why="unranked" if is_answered and not lineage.is_pointwise else "abstained")
    if decision.tier is not None and rank["rank"] > decision.tier:
        return replace(decision, why="tier")
    return replace(decision, why="place") if decision.place else decision


def _unnamed(decision: Decision) -> Decision:
    """A strategy without a model has not named the row: a greedy one names no more rows than the choice needs."""
    return replace(decision, why="unnamed")


def _tier_order(rows: Sequence[Row], tournament: Sequence[Row]) -> list[str]:
    """The ids of the rows on the tier that the budget cuts, in the order of the tournament, else of their scores."""
    ids = {row["id"] for row in rows}
    if tournament:
        return [rank["id"] for rank in tournament if rank["id"] in ids]
    return [row["id"] for row in sorted(rows, key=lambda row: (-(row["score"] or 0.0), row["id"]))]


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
