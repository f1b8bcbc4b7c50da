"""From rankings to preferences, and from preferences to exactly N rows."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import TooFewRanked
from selectllm.schemas import PREFERENCES, SELECTION
from selectllm.store.tables import in_order


@dataclass(frozen=True)
class Cut:
    """Where a budget cuts the tiers of rank: those before `tier` are taken whole, and `taken` of the `rows` on it."""

    tier: int
    rows: int
    taken: int

    @property
    def is_clean(self) -> bool:
        """Whether the tier is taken whole, so that its rows need no order among themselves."""
        return self.taken == self.rows


def cut(ranks: pa.ChunkedArray, budget: int) -> Cut:
    """Find the tier of rank that a budget cuts through.

    Raises TooFewRanked when there are fewer ranks than the budget wants.
    """
    tiers = sorted((count["values"].as_py(), count["counts"].as_py()) for count in ranks.value_counts())
    before = 0
    for tier, rows in tiers:
        if before + rows >= budget:
            return Cut(tier, rows, budget - before)
        before += rows
    raise TooFewRanked(
        f"the replies rank {before:,} rows, and the budget is {budget:,}: too many questions had no usable answer. "
        "All replies are kept; try a smaller budget, or a stronger model"
    )


def without(table: pa.Table, ids: Collection[str]) -> pa.Table:
    """The rows of a table whose `id` is not among `ids`."""
    if not ids:
        return table
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=pa.array(sorted(ids), pa.string()))))


def preferences_by_tier(rankings: pa.Table, cut_tier: int | None, tournament: pa.Table | None) -> pa.Table:
    """Put ranked rows in order: all the firsts, then all the seconds, and so on.

    Parameters: `rankings` as RANKINGS; `cut_tier`, the tier whose rows need an order among themselves, None where the
    budget takes tiers whole; `tournament` as TOURNAMENT of that tier, without which the tier is ordered by score.
    Within any other tier the order is that of the queries. Returns PREFERENCES.
    """
    columns = {name: rankings[name] for name in ("id", "query_id", "rank", "score", "reply")}
    rows = pa.table(columns)
    tier = rows.filter(pc.equal(rows["rank"], cut_tier)) if cut_tier else rows.slice(0, 0)
    others = rows.filter(pc.not_equal(rows["rank"], cut_tier)) if cut_tier else rows
    others = in_order(others, ("rank", "ascending"), ("query_id", "ascending"))
    others = _with_reason(others, ["rank"] * len(others), [0] * len(others))
    if tournament is None:
        tier = in_order(tier, ("score", "descending"), ("id", "ascending"))
        tier = _with_reason(tier, ["score"] * len(tier), [0] * len(tier))
    else:
        tournament = tournament.filter(pc.is_in(tournament["id"], value_set=tier["id"].combine_chunks()))
        tier = tier.take(pc.index_in(tournament["id"], value_set=tier["id"].combine_chunks()))
        # A row whose query abstained in the tournament has its rank alone.
        reasons = ["rank" if rank is None else "tournament" for rank in tournament["rank"].to_pylist()]
        tier = _with_reason(tier, reasons, tournament["round"].to_pylist())
    better = others.filter(pc.less(others["rank"], cut_tier)) if cut_tier else others
    worse = others.filter(pc.greater(others["rank"], cut_tier)) if cut_tier else others.slice(0, 0)
    return as_preferences(pa.concat_tables([better, tier, worse]))


def as_preferences(rows: pa.Table) -> pa.Table:
    """A table with `id`, `reason` and any other columns of PREFERENCES, the best row first, as PREFERENCES."""
    columns: dict[str, Any] = {"place": pa.array(range(1, len(rows) + 1), pa.int64())}
    for field in PREFERENCES:
        if field.name != "place":
            known = field.name in rows.column_names
            columns[field.name] = rows[field.name] if known else pa.nulls(len(rows), field.type)
    return pa.table(columns).cast(PREFERENCES)


def choose(pool: pa.Table, preferences: pa.Table, budget: int, strategy: str) -> pa.Table:
    """Choose exactly `budget` rows of the pool: the first of PREFERENCES, of which none is excluded any more.

    Returns SELECTION and the pool's further columns, in order. Raises TooFewRanked when there are fewer preferences.
    """
    if len(preferences) < budget:
        raise TooFewRanked(
            f"the strategy {strategy} names {len(preferences):,} rows that may be chosen, and the budget is "
            f"{budget:,}: choose fewer rows"
        )
    chosen = in_order(preferences, ("place", "ascending")).slice(0, budget)
    rows = pool.take(pc.index_in(chosen["id"], value_set=pool["id"].combine_chunks())).drop_columns("row")
    columns = {
        "order": pa.array(range(1, budget + 1), pa.int64()),
        "strategy": pa.array([strategy] * budget),
        "picked_by": chosen["reason"],
        **{name: chosen[name] for name in ("score", "query_id", "round", "rank")},
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    own = rows.select(SELECTION.names).cast(SELECTION)
    for name in rows.column_names:
        if name not in SELECTION.names:
            own = own.append_column(rows.schema.field(name), rows[name])
    return own


def _with_reason(rows: pa.Table, reasons: list[str], rounds: list[int]) -> pa.Table:
    rows = rows.append_column("reason", pa.array(reasons, pa.string()))
    return rows.append_column("round", pa.array(rounds, pa.int32()))
