"""From rankings to exactly N rows: all the firsts, then all the seconds, and so on, level by level."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import RunError, TooFewRanked
from selectllm.schemas import SELECTION, TOURNAMENT
from selectllm.store.tables import in_order


@dataclass(frozen=True)
class Cut:
    """Where a budget cuts the levels: those below `level` are taken whole, and `taken` of the `rows` on it."""

    level: int
    rows: int
    taken: int

    @property
    def is_clean(self) -> bool:
        """Whether the level is taken whole, so that its rows need no order among themselves."""
        return self.taken == self.rows


def cut(ranks: pa.ChunkedArray, budget: int) -> Cut:
    """Find the level of rank that a budget cuts through.

    Raises TooFewRanked when there are fewer ranks than the budget wants.
    """
    counted = ranks.value_counts()
    levels = sorted((one["values"].as_py(), one["counts"].as_py()) for one in counted)
    before = 0
    for level, rows in levels:
        if before + rows >= budget:
            return Cut(level, rows, budget - before)
        before += rows
    raise TooFewRanked(
        f"the replies rank {before:,} rows, and the budget is {budget:,}: too many questions had no usable answer. "
        "All replies are kept; try a smaller budget, or a stronger model"
    )


def is_decided(rankings: pa.Table, budget: int, standings: pa.Table | None) -> bool:
    """Whether rankings, and standings of the level that the budget cuts, say which rows a budget takes."""
    if len(rankings) < budget:
        return False
    where = cut(rankings["rank"], budget)
    level = rankings.filter(pc.equal(rankings["rank"], where.level))
    is_scored = standings is None and not level["score"].null_count
    return where.is_clean or is_scored or len(_of_level(standings, level)) == len(level)


def choose(pool: pa.Table, rankings: pa.Table, budget: int, standings: pa.Table | None = None) -> pa.Table:
    """Choose exactly `budget` rows of the pool.

    Parameters: `pool` as POOL, `rankings` as RANKINGS of the rows that may be chosen, `standings` as TOURNAMENT for the
    level that the budget cuts; without it that level is ordered by score.
    Returns SELECTION and the pool's further columns, in order. Raises TooFewRanked, and RunError when `standings` are
    of another level.
    """
    where = cut(rankings["rank"], budget)
    whole = rankings.filter(pc.less(rankings["rank"], where.level))
    whole = in_order(whole, ("rank", "ascending"), ("query_id", "ascending"))
    level = rankings.filter(pc.equal(rankings["rank"], where.level))
    if where.is_clean:
        level, rounds, by = in_order(level, ("query_id", "ascending")), None, "rank"
    elif standings is None and not level["score"].null_count:
        level, rounds, by = in_order(level, ("score", "descending"), ("id", "ascending")), None, "score"
    else:
        standings = _standing(standings, level)
        places = pc.index_in(standings["id"], value_set=level["id"].combine_chunks())
        level, rounds, by = level.take(places), standings["round"].slice(0, where.taken), "tournament"
    level = level.slice(0, where.taken)

    chosen = pa.concat_tables([whole, level]).select(["id", "query_id", "rank"])
    zeros = pa.array([0] * (len(whole) if rounds is not None else budget), pa.int32())
    columns = {
        "order": pa.array(range(1, budget + 1), pa.int64()),
        "query_id": chosen["query_id"],
        "round": pa.chunked_array([zeros, *(rounds.chunks if rounds is not None else [])]),
        "rank": chosen["rank"],
        "picked_by": pa.array(["rank"] * len(whole) + _picked_by(by, where.taken, standings)),
    }
    rows = pool.take(pc.index_in(chosen["id"], value_set=pool["id"].combine_chunks())).drop_columns("row")
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    own = rows.select(SELECTION.names).cast(SELECTION)
    for name in rows.column_names:
        if name not in SELECTION.names:
            own = own.append_column(rows.schema.field(name), rows[name])
    return own


def _of_level(standings: pa.Table | None, level: pa.Table) -> pa.Table:
    standings = TOURNAMENT.empty_table() if standings is None else standings
    return standings.filter(pc.is_in(standings["id"], value_set=level["id"].combine_chunks()))


def _standing(standings: pa.Table | None, level: pa.Table) -> pa.Table:
    """The standings of the rows that may be chosen: those of others say nothing here."""
    found = _of_level(standings, level)
    if len(found) != len(level):
        raise RunError(
            "what may be chosen has changed, so that the budget now cuts a level that has not been put in order: "
            "run again, which asks for that at most"
        )
    return found


def _picked_by(by: str, taken: int, standings: pa.Table | None) -> list[str]:
    """What decided for each row of the cut level; a row whose query abstained in the tournament has its rank alone."""
    if by != "tournament" or standings is None:
        return [by] * taken
    return ["rank" if rank is None else by for rank in standings["rank"].slice(0, taken).to_pylist()]
