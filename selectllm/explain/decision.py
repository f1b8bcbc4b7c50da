"""Why a row was chosen, or not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc

from selectllm.explain.explanation import Decision
from selectllm.explain.lineage import Lineage, where

Row = Mapping[str, Any]


def decision_on(lineage: Lineage, id: str, rank: Row | None, is_answered: bool, tournament: Sequence[Row]) -> Decision:
    """What became of a row, by its rank in its query; `is_answered` says whether any row of the query has a rank."""
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
        return replace(decision, why="place", place=preferred[0]["place"]) if preferred else decision
    if rank is None:
        return replace(decision, why="unranked" if is_answered and not lineage.is_pointwise else "abstained")
    if decision.tier is not None and rank["rank"] > decision.tier:
        return replace(decision, why="tier")
    return replace(decision, why="place") if decision.place else decision


def _tier_order(rows: Sequence[Row], tournament: Sequence[Row]) -> list[str]:
    """The ids of the rows on the tier that the budget cuts, in the order of the tournament, else of their scores."""
    ids = {row["id"] for row in rows}
    if tournament:
        return [rank["id"] for rank in tournament if rank["id"] in ids]
    return [row["id"] for row in sorted(rows, key=lambda row: (-(row["score"] or 0.0), row["id"]))]
