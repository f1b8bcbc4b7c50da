"""Why a row was chosen, or not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc

from selectllm.explain.explanation import Decision
from selectllm.explain.lineage import Lineage, where


def decision_on(
    trail: Lineage, id: str, rank: Mapping[str, Any] | None, is_answered: bool, standings: Sequence[Mapping[str, Any]]
) -> Decision:
    """What became of the row with this rank in a query of which any row has one, or none has."""
    selection = trail.read("selection")
    excluded = {one["id"]: one["reason"] for one in trail.read("excluded").to_pylist()} if trail.has("excluded") else {}
    level = pc.max(selection["rank"]).as_py()
    rows = [one for one in where(trail.read("rankings"), "rank", level) if one["id"] not in excluded]
    in_order = _in_order(rows, standings)
    found = Decision(
        chosen=False,
        why="unknown",
        level=level,
        rows=len(rows),
        taken=pc.sum(pc.equal(selection["rank"], level)).as_py(),
        place=in_order.index(id) + 1 if id in in_order else None,
    )
    if chosen := where(selection, "id", id):
        return replace(found, chosen=True, why=chosen[0]["picked_by"], order=chosen[0]["order"])
    if id in excluded:
        return replace(found, why="excluded", reason=excluded[id])
    if rank is None:
        return replace(found, why="unranked" if is_answered and not trail.is_pointwise else "abstained")
    if rank["rank"] > level:
        return replace(found, why="level")
    return replace(found, why="place") if found.place else found


def _in_order(rows: Sequence[Mapping[str, Any]], standings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of the rows on the level that the budget cuts, as the tournament or their scores put them in order."""
    ids = {one["id"] for one in rows}
    if standings:
        return [one["id"] for one in standings if one["id"] in ids]
    return [one["id"] for one in sorted(rows, key=lambda one: (-(one["score"] or 0.0), one["id"]))]
