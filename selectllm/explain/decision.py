"""Why a row was chosen, or not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc

from selectllm.explain.explanation import Decision
from selectllm.explain.lineage import Lineage, where


def decision_on(
    lineage: Lineage,
    id: str,
    rank: Mapping[str, Any] | None,
    is_answered: bool,
    tournament: Sequence[Mapping[str, Any]],
) -> Decision:
    """What became of the row with this rank in a query, in which some row has a rank, or none has."""
    selection = lineage.table("selection")
    excluded = {row["id"]: row["reason"] for row in lineage.rows("excluded")}
    decision = Decision(chosen=False, why="unknown")
    if lineage.rankings is not None:
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
    if lineage.rankings is None:
        preferred = where(lineage.table("preferences"), "id", id)
        place = preferred[0]["place"] if preferred else None
        return replace(decision, why="place" if preferred else "unknown", place=place)
    if rank is None:
        return replace(decision, why="unranked" if is_answered and not lineage.is_pointwise else "abstained")
    if decision.tier is not None and rank["rank"] > decision.tier:
        return replace(decision, why="tier")
    return replace(decision, why="place") if decision.place else decision


def _tier_order(rows: Sequence[Mapping[str, Any]], tournament: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of the rows on the tier that the budget cuts, as the tournament or their scores put them in order."""
    ids = {row["id"] for row in rows}
    if tournament:
        return [rank["id"] for rank in tournament if rank["id"] in ids]
    return [row["id"] for row in sorted(rows, key=lambda row: (-(row["score"] or 0.0), row["id"]))]
