"""From rankings to preferences, and from preferences to exactly N rows."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import TooFewRanked
from selectllm.schemas import PREFERENCES, SELECTION
from selectllm.store.tables import in_order

NO_RANK: Final = 2**31 - 1  # after all ranks


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
    """Find the tier of rank that a budget cuts through; raises TooFewRanked when there are too few ranks."""
    tiers = sorted((count["values"].as_py(), count["counts"].as_py()) for count in ranks.value_counts())
    before = 0
    for tier, rows in tiers:
        if before + rows >= budget:
            return Cut(tier, rows, budget - before)
        before += rows
    raise TooFewRanked(
        f"the replies rank {before:,} rows, and the budget is {budget:,}: too many questions had no usable answer. "
        "All replies are kept. Ask about these once more with --reask, or try a smaller budget or a stronger model"
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
    rows = rankings.select(["id", "query_id", "rank", "score", "reply"])
    rows = in_order(rows, ("rank", "ascending"), ("query_id", "ascending"))
    cut_tier = cut_tier or 0  # no rank is 0: without a cut all rows come after it
    tier = rows.filter(pc.equal(rows["rank"], cut_tier))
    if tournament is None:
        tier = in_order(tier, ("score", "descending"), ("id", "ascending"))
        reasons, rounds = ["score"] * len(tier), [0] * len(tier)
    else:
        tournament = tournament.filter(pc.is_in(tournament["id"], value_set=tier["id"].combine_chunks()))
        tier = tier.take(pc.index_in(tournament["id"], value_set=tier["id"].combine_chunks()))
        # A row whose query abstained in the tournament has its rank alone.
        reasons = ["rank" if rank is None else "tournament" for rank in tournament["rank"].to_pylist()]
        rounds = tournament["round"].to_pylist()
    better, worse = (rows.filter(compare(rows["rank"], cut_tier)) for compare in (pc.less, pc.greater))
    reasons = ["rank"] * len(better) + reasons + ["rank"] * len(worse)
    rounds = [0] * len(better) + rounds + [0] * len(worse)
    ordered = pa.concat_tables([better, tier, worse]).append_column("reason", pa.array(reasons, pa.string()))
    return as_preferences(ordered.append_column("round", pa.array(rounds, pa.int32())))


def preferences_by_rating(ratings: pa.Table, queries: pa.Table, rankings: pa.Table) -> pa.Table:
    """Put the rows that a model has judged in order of their RATINGS; of equal ones, that with the better rank first.

    Rows that no answer is about are left out, unless they were alone in their query, and so are first in it. Returns
    PREFERENCES, whose score is the rating.
    """
    place = pc.index_in(ratings["id"], value_set=rankings["id"].combine_chunks())
    is_judged = pc.or_(pc.greater(ratings["answers"], 0), pc.is_valid(place))
    query = pc.index_in(ratings["id"], value_set=queries["id"].combine_chunks())
    rows = pa.table(
        {
            **{name: ratings[name] for name in ("id", "round", "reply")},
            "score": ratings["rating"],
            "query_id": queries["query_id"].take(query),
            "rank": rankings["rank"].take(place),
            "reason": pa.array(["rating"] * len(ratings), pa.string()),
        }
    ).filter(is_judged)
    # Ratings of equal evidence are equal, as those of all firsts before any further look.
    ranks = rows.append_column("order", pc.fill_null(rows["rank"], NO_RANK))
    return as_preferences(in_order(ranks, ("score", "descending"), ("order", "ascending"), ("id", "ascending")))


def as_preferences(rows: pa.Table) -> pa.Table:
    """A table with `id`, `reason` and any other columns of PREFERENCES, the best row first, as PREFERENCES."""
    columns = {field.name: pa.nulls(len(rows), field.type) for field in PREFERENCES}
    columns |= {name: rows[name] for name in rows.column_names if name in columns}
    columns["place"] = pa.array(range(1, len(rows) + 1), pa.int64())
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
    # Filtered first: taking rows of a pool whose texts are in several chunks would make one of them.
    found = pool.filter(pc.is_in(pool["id"], value_set=chosen["id"].combine_chunks()))
    rows = found.take(pc.index_in(chosen["id"], value_set=found["id"].combine_chunks())).drop_columns("row")
    columns = {
        "order": pa.array(range(1, budget + 1), pa.int64()),
        "strategy": pa.array([strategy] * budget),
        "picked_by": chosen["reason"],
        **{name: chosen[name] for name in ("score", "query_id", "round", "rank")},
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    further = [field for field in rows.schema if field.name not in SELECTION.names]
    schema = pa.schema([*SELECTION, *further])
    return rows.select(schema.names).cast(schema)
