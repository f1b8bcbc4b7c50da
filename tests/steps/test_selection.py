import pyarrow as pa
import pytest

from selectllm import selection
from selectllm.errors import TooFewRanked
from selectllm.schemas import POOL, RANKINGS, SELECTION, TOURNAMENT
from selectllm.selection import cut, preferences_by_tier


def pool(ids: str) -> pa.Table:
    rows = [{"id": id, "row": n, "instruction": f"Task {id}", "tag": n} for n, id in enumerate(ids, start=1)]
    return pa.Table.from_pylist(rows, schema=POOL.append(pa.field("tag", pa.int64())))


def rankings(queries: list[str], score: float | None = None) -> pa.Table:
    """Rankings from texts: each text has the ids of a query, best first."""
    rows = [
        {"query_id": number, "rank": rank, "id": id, "score": score and score - ord(id), "reply": "r"}
        for number, ids in enumerate(queries)
        for rank, id in enumerate(ids, start=1)
    ]
    return pa.Table.from_pylist(rows, schema=RANKINGS)


def tournament(ids: str) -> pa.Table:
    rows = [{"place": n, "id": id, "round": 1, "rank": n, "reply": "r"} for n, id in enumerate(ids, start=1)]
    return pa.Table.from_pylist(rows, schema=TOURNAMENT)


def choose(rows: pa.Table, ranked: pa.Table, budget: int, order: pa.Table | None = None) -> pa.Table:
    """Choose by tiers, as the strategy does."""
    where = cut(ranked["rank"], budget)
    preferences = preferences_by_tier(ranked, None if where.is_clean else where.tier, order)
    return selection.choose(rows, preferences, budget, "selectllm")


def test_tiers_are_chosen_in_order() -> None:
    chosen = choose(pool("abcdef"), rankings(["ab", "cd", "ef"]), 6)
    assert chosen["id"].to_pylist() == list("acebdf")
    assert chosen["rank"].to_pylist() == [1, 1, 1, 2, 2, 2]
    assert set(chosen["picked_by"].to_pylist()) == {"rank"}


def test_the_tournament_orders_the_tier_cut_by_the_budget() -> None:
    chosen = choose(pool("abcdef"), rankings(["ab", "cd", "ef"]), 5, tournament("fbd"))
    assert chosen["id"].to_pylist() == list("acefb")
    assert chosen["picked_by"].to_pylist() == ["rank"] * 3 + ["tournament"] * 2
    assert chosen["round"].to_pylist() == [0, 0, 0, 1, 1]


def test_scores_order_the_cut_tier_without_a_tournament() -> None:
    chosen = choose(pool("abcdef"), rankings(["ab", "cd", "ef"], score=200.0), 4)
    assert chosen["id"].to_pylist() == list("aceb")
    assert chosen["picked_by"].to_pylist()[-1] == "score"


def test_a_smaller_budget_is_a_prefix_of_a_larger_budget() -> None:
    ranked, order = rankings(["ab", "cd", "ef"]), tournament("fbd")
    larger = choose(pool("abcdef"), ranked, 5, order)["id"].to_pylist()
    assert choose(pool("abcdef"), ranked, 4, order)["id"].to_pylist() == larger[:4]
    assert choose(pool("abcdef"), ranked, 3)["id"].to_pylist() == larger[:3]


def test_extra_columns_are_kept_after_our_own_columns() -> None:
    chosen = choose(pool("abcdef"), rankings(["ab", "cd", "ef"]), 3)
    assert chosen.column_names == [*SELECTION.names, "tag"]
    assert chosen.select(SELECTION.names).schema == SELECTION
    assert chosen["tag"].to_pylist() == [1, 3, 5]


def test_places_of_abstained_queries_go_to_the_next_ranks() -> None:
    assert choose(pool("abcdef"), rankings(["ab", "", "ef"]), 4)["id"].to_pylist() == list("aebf")


def test_too_few_ranked_rows_are_an_error() -> None:
    with pytest.raises(TooFewRanked, match="rank 4 rows, and the budget is 5"):
        choose(pool("abcdef"), rankings(["ab", "", "ef"]), 5)


@pytest.mark.parametrize(("budget", "tier", "taken"), [(1, 1, 1), (3, 1, 3), (4, 2, 1), (6, 2, 3)])
def test_the_cut_tier_is_computed(budget: int, tier: int, taken: int) -> None:
    where = cut(rankings(["ab", "cd", "ef"])["rank"], budget)
    assert (where.tier, where.taken, where.rows) == (tier, taken, 3)
    assert where.is_clean is (taken == 3)
