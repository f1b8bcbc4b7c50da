"""The rules for embeddings and rankings, by cheap checks and by Great Expectations."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from selectllm.errors import ContractError, QualityError
from selectllm.quality import (
    check_embeddings,
    check_pool_table,
    check_queries,
    check_rankings,
    check_selection,
    check_shard,
    check_tournament,
    validate_embeddings,
    validate_rankings,
)
from selectllm.schemas import POOL, SELECTION, TOURNAMENT
from tests.quality.samples import (
    GOOD,
    HOMES,
    IDS,
    ROWS,
    UNIT,
    changed,
    failed,
    finding_of,
    ranks,
    vectors_of,
    verdict_of,
    write_rows,
)

POOL_TABLE = pa.Table.from_pylist(
    [{"id": id, "row": row, "instruction": id} for row, id in enumerate("ab", 1)], schema=POOL
)

# Embeddings

LISTS = [list(map(float, row)) for row in UNIT]


@pytest.mark.parametrize(
    ("table", "dimension", "broken"),
    [
        (vectors_of(UNIT), None, {}),
        (vectors_of(UNIT), 8, {}),
        (pa.table({"id": IDS, "vector": LISTS}), None, {}),
        (vectors_of(UNIT), 384, {"dimension": 30}),
        (vectors_of(changed(3, np.nan)), None, {"finite": 1}),
        (vectors_of(changed(3, np.inf)), None, {"finite": 1, "unit_norm": 1}),
        (vectors_of(changed(3, 0.5)), None, {"unit_norm": 1}),
        (vectors_of(UNIT * 2), None, {"unit_norm": 30}),
        (vectors_of(UNIT[:20], IDS[:20]), None, {"row_count": 0}),
        (vectors_of(UNIT[:0], []), None, {"row_count": 0}),
        (
            vectors_of(np.vstack([UNIT, UNIT[:1]]), [*IDS, "x"]),
            None,
            {"row_count": 0, "ids_of_the_pool": 1, "told_apart": 1},
        ),
        (vectors_of(UNIT, IDS[::-1]), None, {"ids_of_the_pool": 30}),
        (vectors_of(UNIT, [*IDS[:29], IDS[0]]), None, {"ids_of_the_pool": 1}),
        (pa.table({"id": IDS, "vector": [*LISTS[:-1], [1.0]]}), None, {"dimension": 1}),
        (pa.table({"id": IDS, "vector": [*LISTS[:-1], []]}), None, {"dimension": 1, "unit_norm": 1}),
        (pa.table({"id": IDS, "vector": [None, *LISTS[1:]]}), None, {"columns": 1}),
        (pa.table({"id": IDS, "vector": ["[1.0]"] * 30}), None, {"columns": 1}),
        (pa.table({"id": IDS}), None, {"columns": 1}),
        (pa.table({"row": [1]}), None, {"columns": 2}),
        (pa.table([IDS, IDS, LISTS], ["id", "id", "vector"]), None, {"columns": 1}),
    ],
)
def test_embeddings_are_validated(table, dimension, broken):
    verdict = validate_embeddings(table, ROWS, dimension)
    assert (failed(verdict), verdict.success) == (broken, not broken)
    warnings = [finding.rule for finding in verdict.findings if finding.severity == "warning"]
    assert warnings == ([] if "columns" in broken else ["known_words", "told_apart"])
    assert verdict.checked == (1 if "columns" in broken else 8)


def test_embeddings_in_parts_have_the_verdict_of_the_whole(monkeypatch):
    few = changed(3, np.nan)
    few[5:8] = few[4] * (1 + 1e-6)
    few[20:24] = 0
    few[25:] *= 2
    tables = [vectors_of(few, IDS[::-1]), vectors_of(UNIT), vectors_of(UNIT[:20], IDS[:20]), vectors_of(UNIT[:0], [])]
    tables += [vectors_of(np.vstack([few, few[:1]]), [*IDS, "x"]), pa.table({"id": IDS, "vector": [None, *LISTS[1:]]})]
    whole = [validate_embeddings(table, ROWS) for table in tables]
    with pytest.raises(ContractError) as raised:
        check_embeddings(few, ROWS["id"])
    warned = check_embeddings(UNIT[[*range(29), 0]], ROWS["id"])
    for name in ("output_rules.PART_ROWS", "output_rules.SLICE", "checks.SLICE"):
        monkeypatch.setattr(f"selectllm.quality.{name}", 7)
    assert [validate_embeddings(table, ROWS) for table in tables] == whole
    assert [verdict.success for verdict in whole] == [False, True, False, False, False, False]
    with pytest.raises(ContractError) as raised_in_parts:
        check_embeddings(few, ROWS["id"])
    assert str(raised_in_parts.value) == str(raised.value)
    assert check_embeddings(UNIT[[*range(29), 0]], ROWS["id"]) == warned == {"told_apart": 1}


def test_vectors_that_say_little_are_warned_of_and_counted():
    vectors = changed(3, 0)
    vectors[5:8] = vectors[4] * (1 + 1e-6)
    verdict = validate_embeddings(vectors_of(vectors), ROWS)
    assert (failed(verdict), verdict.success) == ({"known_words": 1, "told_apart": 3}, True)
    assert finding_of(verdict, "told_apart").first == tuple(IDS[5:8])
    assert check_embeddings(vectors, ROWS["id"]) == {"known_words": 1, "told_apart": 3}


def test_failed_embeddings_name_ids_and_what_to_do():
    with pytest.raises(QualityError) as raised:
        validate_embeddings(vectors_of(changed(3, np.nan)), ROWS).require()
    assert str(raised.value) == (
        f"the embeddings table does not meet its expectations: finite (1 of 30, ids {IDS[3]}). To go on, remove its "
        "artifact and run again, so that it is made anew, or pass --no-validate"
    )


# Rankings


@pytest.mark.parametrize(
    ("table", "abstained", "broken"),
    [
        (ranks(), 0, {}),
        (ranks(), None, {}),
        (ranks((0, "id", IDS[7])), 0, {"own_candidates": 1, "ranked_once": 1}),
        (ranks((0, "id", "unknown")), 0, {"own_candidates": 1}),
        (ranks((0, "query_id", 99)), 0, {"own_candidates": 1, "gapless_ranks": 2}),
        (ranks((1, "rank", 1)), 0, {"unique_ranks": 1, "gapless_ranks": 1}),
        (ranks((2, "rank", 4)), 0, {"gapless_ranks": 1}),
        (ranks((0, "rank", 0)), 0, {"gapless_ranks": 1}),
        (ranks((4, "reply", "")), 0, {"reply_recorded": 1}),
        (ranks(more=({**GOOD[0], "rank": 4},)), 0, {"ranked_once": 1}),
        (ranks(drop=3), 1, {}),
        (ranks(drop=3), 0, {"none_lost": 1}),
        (ranks(drop=6), 2, {"abstained_share": 2}),
        (ranks(drop=18), 6, {"some_queries_ranked": 6, "abstained_share": 6}),
        (ranks().drop_columns("reply"), 0, {"columns": 1}),
        (ranks().set_column(1, "rank", pa.array(["1"] * 18)), 0, {"columns": 1}),
        (ranks().set_column(0, "query_id", pa.array([None] + [0] * 17)), 0, {"columns": 1}),
    ],
)
def test_rankings_are_validated(table, abstained, broken):
    verdict = validate_rankings(table, HOMES, max_abstained=0.2, abstained=abstained)
    assert (failed(verdict), verdict.success) == (broken, not broken)
    assert all(finding.severity == "critical" for finding in verdict.findings)
    if broken:
        with pytest.raises(QualityError, match=f"the rankings table does not meet .*: {next(iter(broken))}"):
            verdict.require()


def test_rankings_in_parts_have_the_verdict_of_the_whole(monkeypatch):
    tables = [ranks(), ranks((1, "rank", 1)), ranks(more=({**GOOD[0], "rank": 4},)), ranks(drop=6)]
    whole = [validate_rankings(table, HOMES, max_abstained=0.2, abstained=0) for table in tables]
    monkeypatch.setattr("selectllm.quality.rules.PART_ROWS", 5)
    assert [validate_rankings(table, HOMES, max_abstained=0.2, abstained=0) for table in tables] == whole
    assert [verdict.success for verdict in whole] == [True, False, False, False]


def test_a_pool_in_parts_has_the_verdict_of_the_whole(tmp_path, monkeypatch):
    rows = [{"instruction": text} for text in ("Sing.", "?", "Sing.", "A\x00B", "Dance.", "", "Sing.", "Laugh.", "?")]
    location = write_rows(tmp_path / "pool.jsonl", *rows)
    whole = verdict_of(location)
    monkeypatch.setattr("selectllm.quality.rules.PART_ROWS", 2)
    assert verdict_of(location) == whole
    assert failed(whole) == {"instruction_present": 1, "not_near_empty": 2, "no_controls": 1, "unique_id": 3}


def test_the_last_row_of_a_query_needs_no_reply():
    last = ({"query_id": 0, "rank": 4, "id": IDS[3], "score": None, "reply": "r"},)
    last += ({"query_id": 0, "rank": 5, "id": IDS[4], "score": None, "reply": ""},)
    assert validate_rankings(ranks(more=last), HOMES, max_abstained=0).success


def test_queries_without_a_rank_are_named():
    verdict = validate_rankings(ranks(drop=6), HOMES, max_abstained=0)
    finding = finding_of(verdict, "abstained_share")
    assert (finding.count, finding.rows, finding.key, finding.first, finding.about) == (
        2,
        6,
        "query_id",
        (4, 5),
        "table",
    )
    assert finding.observed == pytest.approx(1 / 3)


# The cheap checks, which run first


@pytest.mark.parametrize(
    ("check", "rule", "count", "first"),
    [
        (lambda: check_embeddings(UNIT[:20], ROWS["id"]), "row_count", 0, ()),
        (lambda: check_embeddings(changed(3, np.nan), ROWS["id"]), "finite", 1, (IDS[3],)),
        (lambda: check_shard(changed(3, np.nan), ROWS["id"]), "finite", 1, (IDS[3],)),
        (lambda: check_shard(UNIT[:20], ROWS["id"]), "row_count", 0, ()),
        (lambda: check_embeddings(UNIT * 2, ROWS["id"]), "unit_norm", 30, tuple(IDS[:10])),
        (lambda: check_rankings(ranks((0, "id", IDS[7])), HOMES), "own_candidates", 1, (IDS[7],)),
        (lambda: check_rankings(ranks(more=({**GOOD[0], "rank": 4},)), HOMES), "ranked_once", 1, (IDS[0],)),
        (lambda: check_rankings(ranks((0, "id", "unknown")), HOMES), "own_candidates", 1, ("unknown",)),
        (lambda: check_rankings(ranks((1, "rank", 1)), HOMES), "unique_ranks", 1, (IDS[1],)),
        (lambda: check_rankings(ranks((2, "rank", 4)), HOMES), "gapless_ranks", 1, (IDS[2],)),
        (lambda: check_rankings(ranks((4, "reply", "")), HOMES), "reply_recorded", 1, (IDS[6],)),
        (lambda: check_pool_table(POOL_TABLE.take([0, 1, 0])), "unique_id", 1, ("a",)),
        (lambda: check_pool_table(POOL_TABLE.drop_columns("row")), "columns", 1, ("row",)),
        (lambda: check_queries(HOMES, ROWS["id"].slice(2)), None, 0, (IDS[0], IDS[1])),
    ],
)
def test_a_failed_check_names_the_first_ids_and_carries_a_verdict(check, rule, count, first):
    with pytest.raises(ContractError) as raised:
        check()
    assert ", ".join(first[:3]) in str(raised.value)
    verdict = raised.value.evidence
    assert pickle.loads(pickle.dumps(raised.value)).evidence == verdict
    if rule is None:
        assert verdict is None  # queries are not validated
    else:
        assert (failed(verdict), verdict.success, verdict.findings[0].first) == ({rule: count}, False, first)


def test_good_tables_pass_the_checks():
    check_pool_table(POOL_TABLE)
    check_embeddings(UNIT, ROWS["id"])
    check_shard(UNIT, ROWS["id"])
    check_queries(HOMES, ROWS["id"])
    check_rankings(ranks(), HOMES)


def selection(*ids: str) -> pa.Table:
    rows = [
        {"order": order, "id": id, "instruction": id, "strategy": "random", "picked_by": "random"}
        for order, id in enumerate(ids, 1)
    ]
    return pa.Table.from_pylist(rows, schema=SELECTION)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (selection("a", "b"), None),
        (selection("a", "b", "c"), "it has not 2 rows"),
        (selection("a", "a"), r"ids stand twice \(1 of 2, ids a\)"),
        (selection("a", "b").take([1, 0]), r"rows are not in order \(2 of 2, ids b, a\)"),
        (selection("a", "b").drop_columns("strategy"), r"not of their type \(1 of 11, columns strategy\)"),
    ],
)
def test_a_selection_is_as_large_as_the_budget_and_in_order(table, message):
    if message is None:
        check_selection(table, 2)
        return
    with pytest.raises(
        ContractError, match=f"the selection cannot be relied on: .*{message}. This is a defect"
    ) as raised:
        check_selection(table, 2)
    assert raised.value.evidence is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("ab", None),
        ("abb", "ids stand twice"),
        ("ac", "rows are not of the tier"),
        ("a", "rows of the tier are missing"),
    ],
)
def test_a_tournament_has_each_row_of_its_tier_once(ids, message):
    rows = [{"place": place, "id": id, "round": 1} for place, id in enumerate(ids, 1)]
    table = pa.Table.from_pylist(rows, schema=TOURNAMENT)
    if message is None:
        check_tournament(table, {"a", "b"})
        return
    with pytest.raises(ContractError, match=f"the tournament cannot be relied on: {message}"):
        check_tournament(table, {"a", "b"})
