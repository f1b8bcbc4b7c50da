import json
import pickle
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from selectllm import pool, quality
from selectllm.errors import (
    ContractError,
    MissingDependency,
    PoolError,
    QualityError,
    SelectLLMError,
    StoreError,
    UsageError,
)
from selectllm.pool import Pool
from selectllm.quality import judge_embeddings, judge_pool, judge_rankings, load_suite
from selectllm.quality.checks import check_embeddings, check_queries, check_rankings
from selectllm.quality.engine import Rule, context, judge
from selectllm.quality.markdown import markdown
from selectllm.quality.pool_rules import ALL_ROWS, USABLE_ROWS
from selectllm.quality.verdicts import Verdict
from selectllm.schemas import QUERIES, RANKINGS, embeddings
from tests.broken import FILES, FOLDER, LARGE, Case

ROOT = Path(__file__).resolve().parents[1]


def failed(verdict: Verdict) -> dict[str, int]:
    return {one.rule: one.count for one in verdict.failures}


def finding(verdict: Verdict, rule: str) -> Any:
    return next(one for one in verdict.findings if one.rule == rule)


# The pool


def check(path: Path, case: Case | str) -> None:
    """What becomes of a pool's file is what its case says, and its counts add up."""
    if isinstance(case, str):
        with pytest.raises(PoolError, match=re.escape(case)) as raised:
            pool.read(str(path), judge=judge_pool)
        assert str(raised.value).isprintable()
        return
    found = pool.read(str(path), judge=judge_pool)
    reasons = Counter(found.quarantine["reason"].to_pylist())
    repeats = sum(count for reason, count in reasons.items() if reason.startswith("duplicate of row "))
    faults = {reason: count for reason, count in reasons.items() if not reason.startswith("duplicate of row ")}
    assert (found.table.num_rows, faults, repeats) == (case.kept, case.reasons, case.duplicates)
    assert (found.quarantined, found.duplicates) == (sum(faults.values()), repeats)
    assert found.rows_read == found.quarantined + found.duplicates + found.table.num_rows
    verdict = found.verdict
    assert verdict is not None
    assert (failed(verdict), verdict.success, verdict.checked) == (case.failed, not case.critical, case.checked)
    assert bool(found.refused) == (case.kept == 0)
    assert case.refused in found.refused
    if not case.critical:
        verdict.require()
        return
    with pytest.raises(QualityError) as raised_here:
        verdict.require()
    for rule in case.critical:
        assert re.search(rf"the pool table .* {rule} \((observed .*, rows|1 of 1, columns) \w", str(raised_here.value))
    assert "--no-validate" in str(raised_here.value)


def test_every_file_of_the_corpus_has_a_case():
    assert {path.name for path in FOLDER.glob("[!.]*")} == set(FILES)
    assert sum(isinstance(case, Case) and bool(case.failed) for case in FILES.values()) >= 40


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file(name):
    check(FOLDER / name, FILES[name])


@pytest.mark.parametrize("name", LARGE)
def test_a_large_broken_file(name, tmp_path):
    content, case = LARGE[name]
    path = tmp_path / name
    path.write_bytes(content())
    check(path, case)


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_without_a_judge_nothing_changes():
    found = pool.read(str(FOLDER / "controls.jsonl"))
    assert (found.quarantined, found.table.num_rows, found.verdict) == (0, 9, None)


def test_the_example_pool_is_good(tmp_path):
    found = pool.read(str(ROOT / "examples" / "pool.jsonl"), judge=judge_pool)
    assert found.quarantine.select(["row", "reason"]).to_pylist() == [
        {"row": 33, "reason": "has fewer than 2 letters or digits"}  # ???
    ]


def test_real_instructions_pass(shared):
    found = pool.read(str(shared / "dolly_3k.jsonl"), judge=judge_pool)
    assert (found.quarantined, found.duplicates, found.table.num_rows) == (0, 15, 2981)
    assert failed(found.verdict) == {"unique_id": 15}


def test_a_repeat_of_a_row_at_fault_takes_its_place(tmp_path):
    path = write(
        tmp_path / "pool.jsonl",
        {"instruction": "Name a river.", "kind": "bad"},
        {"instruction": "Name a river.", "kind": "good"},
        {"instruction": "Name a river.", "kind": "good"},
    )
    suite = write_suite(
        tmp_path, one("expect_column_values_to_be_in_set", "warning", column="kind", value_set=["good"])
    )
    found = pool.read(path, judge=partial(judge_pool, suite=load_suite(suite)))
    assert found.table["row"].to_pylist() == [2]
    reasons = ["fails expect_column_values_to_be_in_set(kind)", "duplicate of row 2"]
    assert found.quarantine["reason"].to_pylist() == reasons
    assert found.table["kind"].to_pylist() == ["good"]


def test_a_finding_names_the_first_ten_rows(tmp_path):
    path = write(tmp_path / "pool.jsonl", *({"instruction": "?" if n % 3 else f"Task {n}"} for n in range(21)))
    with pytest.raises(QualityError, match=r"near_empty_share \(observed 0.666667; 14 of 21, rows 2, 3, 5, \.\.\.\)"):
        pool.read(path, judge=judge_pool).verdict.require()
    found = finding(pool.read(path, judge=judge_pool).verdict, "not_near_empty")
    assert (found.count, found.rows, found.first) == (14, 21, (2, 3, 5, 6, 8, 9, 11, 12, 14, 15))
    assert (found.key, found.about, found.severity) == ("row", "rows", "warning")
    assert found.observed == pytest.approx(14 / 21)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["?", "ab", "Ã©Ã©Ã©", "\x00ab"])


@settings(max_examples=10, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_whatever_is_judged_the_counts_add_up(texts, tmp_path_factory):
    path = write(tmp_path_factory.getbasetemp() / "any.jsonl", *({"instruction": text} for text in texts))
    found = pool.read(path, judge=judge_pool)
    assert found.rows_read == len(texts) == found.quarantined + found.duplicates + found.table.num_rows
    assert found.quarantine.num_rows == found.quarantined + found.duplicates
    assert bool(found.refused) == (found.table.num_rows == 0) == ("usable_rows" in failed(found.verdict))


# A user's own suite


def one(type_: str, severity: str | None = None, **kwargs: Any) -> dict[str, Any]:
    return {"type": type_, "kwargs": kwargs} | ({"severity": severity} if severity else {})


def write_suite(folder: Path, *entries: Any, name: str = "suite.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"expectations": entries}), encoding="utf-8")
    return path


@pytest.fixture
def judged(tmp_path):
    """Reads a pool of 30 rows and a repeat, judged by expectations of a user's own."""
    rows = [
        {"instruction": f"Task number {n}", "kind": "abc"[n % 3], "n": n, "tags": ["x"], "deep": {"a": None}}
        for n in range(30)
    ]
    path = write(tmp_path / "pool.jsonl", *rows, rows[0], {"instruction": "?", "kind": "a"})

    def judged(*entries: Any) -> Pool:
        suite = load_suite(write_suite(tmp_path, *entries))
        return pool.read(path, judge=partial(judge_pool, suite=suite))

    return judged


@pytest.mark.parametrize(
    ("severity", "kept", "success"),
    [("warning", 20, True), ("info", 30, True), ("critical", 30, False), (None, 30, False)],
)
def test_severity_says_what_becomes_of_rows(judged, severity, kept, success):
    found = judged(one("expect_column_values_to_match_regex", severity, column="kind", regex="^(a|b)$"))
    assert (found.table.num_rows, found.verdict.success) == (kept, success)
    mine = finding(found.verdict, "expect_column_values_to_match_regex(kind)")
    assert (mine.count, mine.first[:3], mine.severity) == (10, (3, 6, 9), severity or "critical")
    if not success:
        with pytest.raises(QualityError, match=r"match_regex\(kind\) \(10 of 32, rows 3, 6, 9, \.\.\.\)"):
            found.verdict.require()


def test_an_expectation_about_the_table_quarantines_nothing(judged):
    found = judged(one("expect_table_row_count_to_be_between", "warning", min_value=100))
    assert (found.table.num_rows, found.verdict.success) == (30, True)
    rule = "expect_table_row_count_to_be_between"
    assert {"rule": rule, "count": 0, "severity": "warning"} in found.verdict.summary()["failed"]
    assert finding(found.verdict, rule).observed == 32
    with pytest.raises(QualityError, match=rf"{rule} \(observed 32\)"):
        judged(one(rule, min_value=100)).verdict.require()


def test_what_mostly_allows_is_not_quarantined(judged):
    found = judged(one("expect_column_values_to_not_be_in_set", "warning", column="kind", value_set=["c"], mostly=0.5))
    assert found.table.num_rows == 30
    assert finding(found.verdict, "expect_column_values_to_not_be_in_set(kind)").count == 10


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        (one("expect_column_values_to_be_unique", "warning", column="id"), 30),
        (one("expect_column_values_to_be_unique", "warning", column="kind"), 3),
        (one("expect_compound_columns_to_be_unique", "warning", column_list=["kind", "input"]), 3),
    ],
)
def test_the_first_of_repeated_values_is_kept(judged, entry, kept):
    assert judged(entry).table.num_rows == kept


def test_a_suite_in_yaml_names_its_rules_and_reasons(judged, tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text("""
name: ours  # whatever Great Expectations writes besides
expectations:
  - type: expect_column_values_to_be_in_set
    kwargs: {column: kind, value_set: [a, b]}
    severity: warning
    description: a kind that we know
    meta: {rule: known_kind}
  - {type: expect_column_values_to_be_between, severity: warning, kwargs: {column: n, max_value: 28}}
  - {type: expect_column_values_to_be_between, severity: warning, kwargs: {column: n, min_value: 2}}
""")
    suite = load_suite(path)
    between = "expect_column_values_to_be_between(n)"
    assert [rule.name for rule in suite.rules] == ["known_kind", between, f"{between} #2"]
    found = pool.read(str(tmp_path / "pool.jsonl"), judge=partial(judge_pool, suite=suite))
    reasons = dict(zip(found.quarantine["row"].to_pylist(), found.quarantine["reason"].to_pylist(), strict=True))
    assert reasons[1] == reasons[2] == f"fails {between} #2"
    assert reasons[3] == "fails known_kind: a kind that we know"
    assert reasons[30] == f"fails known_kind: a kind that we know; fails {between}"


def test_the_digest_is_of_what_a_suite_says(tmp_path):
    entry = one("expect_column_to_exist", column="kind")
    yaml = tmp_path / "suite.yml"
    yaml.write_text("# a comment\nexpectations:\n- kwargs:\n    column: kind\n  type: expect_column_to_exist\n")
    plain = load_suite(write_suite(tmp_path, entry)).digest
    assert load_suite(yaml).digest == plain
    assert re.fullmatch("[0-9a-f]{32}", plain)
    others = [
        {**entry, "severity": "warning"},
        one("expect_column_to_exist", column="x"),
        {**entry, "meta": {"rule": "x"}},
    ]
    assert len({plain, *(load_suite(write_suite(tmp_path, other)).digest for other in others)}) == 4


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            one("expect_column_to_exists", column="x"),
            "knows no expect_column_to_exists; did you mean expect_column_to_e",
        ),
        (one("foo"), "knows no foo: see https://"),
        (one("expect_column_to_exist", colum="x"), "takes: column: field required; colum: extra fields not permitted"),
        (one("expect_column_to_exist", "bad", column="x"), "severity 'bad': it can be critical, warning or info"),
        (
            {"type": "expect_column_to_exist", "kwargs": {"severity": "info"}},
            "'severity' among its kwargs: write it beside",
        ),
        ({"type": "expect_column_to_exist", "serverity": "info"}, "a key 'serverity', which means nothing"),
        ({"type": "expect_column_to_exist", "kwargs": ["x"]}, "kwargs that are a list"),
        ({"expectation_type": "expect_column_to_exist"}, "expectation 1 of .*suite.json has no type"),
        ("expect_column_to_exist", "has no type"),
    ],
)
def test_an_entry_that_is_none(tmp_path, entry, message):
    with pytest.raises(UsageError, match=message) as raised:
        load_suite(write_suite(tmp_path, entry))
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("suite.json", "{", "suite.json is not JSON that can be read: Expecting property name"),
        ("suite.yaml", "a: [", "suite.yaml is not YAML that can be read: while parsing"),
        ("suite.yaml", "", "holds no expectations: write them as a list"),
        ("suite.json", "3", "holds no expectations"),
        ("suite.json", '{"expectations": []}', "holds no expectations"),
        ("suite.yaml", b"\xff\xfe", "cannot be read: 'utf-8' codec"),
        ("nowhere.yaml", None, "nowhere.yaml cannot be read: No such file"),
        ("", None, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_is_no_suite(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as raised:
        load_suite(path)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            one("expect_column_values_to_not_be_null", column="nope"),
            "a column 'nope', which the pool does not have: name",
        ),
        (one("expect_column_pair_values_to_be_equal", column_A="n", column_B="m"), "a column 'm'"),
        (one("expect_column_values_to_match_regex", column="kind", regex="("), "Invalid regular expression"),
        (one("expect_column_mean_to_be_between", column="kind", min_value=1), "mean_to_be_between.kind. could not be"),
        (one("expect_column_mean_to_be_between", column="n", min_value={"$PARAMETER": "x"}), "No value found for"),
        (one("unexpected_rows_expectation", unexpected_rows_query="select 1"), "could not be looked at: No provider"),
    ],
)
def test_an_expectation_that_does_not_fit_the_pool(judged, entry, message):
    with pytest.raises(UsageError, match=message) as raised:
        judged(entry)
    assert str(raised.value).isprintable()


def test_a_column_that_should_exist_may_be_absent(judged):
    assert not judged(one("expect_column_to_exist", column="nope")).verdict.success
    assert judged(one("expect_column_to_exist", column="deep")).verdict.success


# Embeddings

IDS = [f"{n:032x}" for n in range(30)]
ROWS = pa.table({"id": IDS})
UNIT = np.eye(30, 8, dtype=np.float32) + np.eye(30, 8, -8, dtype=np.float32)
UNIT[16:, 0] = 1


def vectors_of(vectors: np.ndarray, ids: list[str] | None = None) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1])
    return pa.table([pa.array(IDS if ids is None else ids), flat], schema=embeddings(vectors.shape[1]))


def changed(row: int, value: Any) -> np.ndarray:
    vectors = UNIT.copy()
    vectors[row] = value
    return vectors


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
        (vectors_of(changed(3, 0)), None, {"unit_norm": 1}),
        (vectors_of(UNIT * 2), None, {"unit_norm": 30}),
        (vectors_of(UNIT[:20], IDS[:20]), None, {"row_count": 0}),
        (vectors_of(UNIT[:0], []), None, {"row_count": 0}),
        (vectors_of(np.vstack([UNIT, UNIT[:1]]), [*IDS, "x"]), None, {"row_count": 0, "ids_of_the_pool": 1}),
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
def test_embeddings(table, dimension, broken):
    verdict = judge_embeddings(table, ROWS, dimension)
    assert (failed(verdict), verdict.success) == (broken, not broken)
    assert all(one.severity == "critical" for one in verdict.findings)
    assert verdict.checked == (1 if "columns" in broken else 6)


def test_embeddings_that_fail_name_ids_and_what_to_do():
    with pytest.raises(QualityError) as raised:
        judge_embeddings(vectors_of(changed(3, np.nan)), ROWS).require()
    assert str(raised.value) == (
        f"the embeddings table does not meet its expectations: finite (1 of 30, ids {IDS[3]}). To go on, remove its "
        "artifact and run again, so that it is made anew, or pass --no-validate"
    )


# Rankings

HOMES = pa.table(
    [pa.array(range(30)).cast(pa.int64()), pa.array([0] * 30, pa.int32()), IDS],
    schema=QUERIES,
).set_column(0, QUERIES.field("query_id"), pa.array([n // 5 for n in range(30)], pa.int64()))
GOOD = [
    {"query_id": n // 5, "rank": n % 5 + 1, "id": IDS[n], "score": None, "reply": "r"} for n in range(30) if n % 5 < 3
]


def ranks(*changes: tuple[int, str, Any], drop: int = 0, more: tuple[dict[str, Any], ...] = ()) -> pa.Table:
    rows = [dict(row) for row in GOOD]
    for place, name, value in changes:
        rows[place][name] = value
    return pa.Table.from_pylist([*rows[: len(rows) - drop], *more], schema=RANKINGS)


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
def test_rankings(table, abstained, broken):
    verdict = judge_rankings(table, HOMES, max_abstained=0.2, abstained=abstained)
    assert (failed(verdict), verdict.success) == (broken, not broken)
    assert all(one.severity == "critical" for one in verdict.findings)
    if broken:
        with pytest.raises(QualityError, match=f"the rankings table does not meet .*: {next(iter(broken))}"):
            verdict.require()


def test_the_last_one_left_of_a_query_needs_no_reply():
    last = ({"query_id": 0, "rank": 4, "id": IDS[3], "score": None, "reply": "r"},)
    last += ({"query_id": 0, "rank": 5, "id": IDS[4], "score": None, "reply": ""},)
    assert judge_rankings(ranks(more=last), HOMES, max_abstained=0).success


def test_queries_without_a_rank_are_named():
    verdict = judge_rankings(ranks(drop=6), HOMES, max_abstained=0)
    found = finding(verdict, "abstained_share")
    assert (found.count, found.rows, found.key, found.first, found.about) == (2, 6, "query_id", (4, 5), "table")
    assert found.observed == pytest.approx(1 / 3)


# The cheap contracts, which come first


@pytest.mark.parametrize(
    ("check", "rule", "count", "first"),
    [
        (lambda: check_embeddings(UNIT[:20], ROWS), "row_count", 0, ()),
        (lambda: check_embeddings(changed(3, np.nan), ROWS), "finite", 1, (IDS[3],)),
        (lambda: check_embeddings(UNIT * 2, ROWS), "unit_norm", 30, tuple(IDS[:10])),
        (lambda: check_rankings(ranks((0, "id", IDS[7])), HOMES), "unique_id", 1, (IDS[7],)),
        (lambda: check_rankings(ranks((0, "id", "unknown")), HOMES), "own_candidates", 1, ("unknown",)),
        (lambda: check_rankings(ranks((1, "rank", 1)), HOMES), "gapless_ranks", 1, (IDS[1],)),
        (lambda: check_rankings(ranks((2, "rank", 4)), HOMES), "gapless_ranks", 1, (IDS[2],)),
        (lambda: check_queries(HOMES, ROWS.slice(2)), None, 0, (IDS[0], IDS[1])),
    ],
)
def test_a_contract_names_the_first_ids_and_has_a_verdict(check, rule, count, first):
    with pytest.raises(ContractError) as raised:
        check()
    assert ", ".join(first[:3]) in str(raised.value)
    verdict = raised.value.verdict
    assert pickle.loads(pickle.dumps(raised.value)).verdict == verdict
    if rule is None:
        assert verdict is None  # validation judges no queries
    else:
        assert (failed(verdict), verdict.success, verdict.findings[0].first) == ({rule: count}, False, first)


def test_good_tables_keep_the_contracts():
    check_embeddings(UNIT, ROWS)
    check_queries(HOMES, ROWS)
    check_rankings(ranks(), HOMES)


# Verdicts, and what is made of them


def test_a_verdict_is_data():
    verdict = pool.read(str(FOLDER / "mostly_repeats.jsonl"), judge=judge_pool).verdict
    assert verdict.summary() == {
        "success": False,
        "checked": 16,
        "failed": [
            {"rule": "repeats_share", "count": 3, "severity": "critical"},
            {"rule": "unique_id", "count": 3, "severity": "warning"},
        ],
    }
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert Verdict.model_validate(json.loads(json.dumps(verdict.model_dump(mode="json")))) == verdict


def test_no_text_of_a_pool_is_in_a_verdict_or_what_is_made_of_it(tmp_path):
    suite = write_suite(
        tmp_path,
        one("expect_column_values_to_match_regex", "warning", column="input", regex="<b>&"),
        one("expect_column_most_common_value_to_be_in_set", "warning", column="input", value_set=["x"]),
        one("expect_column_distinct_values_to_be_in_set", "warning", column="output", value_set=["x"]),
        one("expect_table_columns_to_match_set", "warning", column_set=["x"]),
    )
    rows = [{"instruction": f"EVIL <script> {n}\x00", "input": "EVIL", "output": "EVIL", "EVIL": n} for n in range(9)]
    path = write(tmp_path / "pool.jsonl", *rows, {"instruction": "fine", "input": "<b>&"})
    verdict = pool.read(path, judge=partial(judge_pool, suite=load_suite(suite))).verdict
    index = quality.data_docs(tmp_path / "docs", [verdict], "run-1")
    pages = [page.read_text(encoding="utf-8") for page in index.parent.rglob("*.html")]
    for told in (verdict.model_dump_json(), markdown(verdict), *pages):
        assert "EVIL" not in told
    assert not any("<b>" in page for page in pages if "input" in page and "&lt;b&gt;" not in page)


def test_a_verdict_as_markdown_has_no_marks_but_its_own(judged):
    entry = {**one("expect_column_to_exist", column="x"), "meta": {"rule": "<img src=x> | `a` [b](c) *d*\n# e"}}
    verdict = judged(entry, one("expect_column_values_to_be_in_set", column="kind", value_set=["z"])).verdict
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(verdict))
    assert html.count("<tr>") == verdict.checked + 1
    assert not re.search("<(img|code|a|em|h1)", html)
    assert "&lt;img src=x&gt; | `a` [b](c) *d* # e" in html
    assert "32 of 32" in html
    assert "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..." in html


def test_data_docs_are_pages_of_every_boundary(tmp_path):
    verdicts = [
        pool.read(str(FOLDER / "controls.jsonl"), judge=judge_pool).verdict,
        judge_embeddings(vectors_of(changed(3, np.nan)), ROWS),
        judge_rankings(ranks(drop=6), HOMES, max_abstained=0),
    ]
    index = quality.data_docs(tmp_path / "new" / "docs", verdicts, "run-1")
    assert index == tmp_path / "new" / "docs" / "index.html"
    pages = {page.stem: page.read_text(encoding="utf-8") for page in index.parent.glob("validations/**/*.html")}
    assert set(pages) == {"pool", "embeddings", "rankings"}
    assert IDS[3] in pages["embeddings"]
    assert "unranked" in pages["rankings"]
    for folder in ("run-1", "run-2"):  # into the same folder again
        quality.data_docs(index.parent, verdicts[:1], folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the data docs cannot be written to .*: Not a directory"):
        quality.data_docs(tmp_path / "file" / "docs", verdicts, "run-1")


# Great Expectations itself


def test_every_rule_of_ours_has_a_name_of_its_own():
    names = [rule.name for rule in (*ALL_ROWS, *USABLE_ROWS)]
    assert len(set(names)) == len(names)


def test_judging_from_several_threads():
    tables = [vectors_of(changed(row, np.nan)) for row in range(8)]
    with ThreadPoolExecutor(4) as threads:
        verdicts = list(threads.map(lambda table: judge_embeddings(table, ROWS), tables))
    assert [finding(verdict, "finite").first for verdict in verdicts] == [(IDS[row],) for row in range(8)]


def test_a_rule_that_cannot_be_looked_at_is_no_verdict():
    import pandas as pd

    frame = pd.DataFrame({"id": ["a"], "n": [1]})
    with pytest.raises(QualityError, match="rule could not be looked at"):
        judge(frame, "id", [Rule("rule", "expect_column_values_to_not_be_null", {"column": "gone"})])


def test_without_the_package_its_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "great_expectations", raising=False)
    monkeypatch.setattr("selectllm.quality.engine.find_spec", lambda _name: None)
    for work in (
        lambda: judge_embeddings(vectors_of(UNIT), ROWS),
        lambda: load_suite(tmp_path / "suite.json"),
        context,
    ):
        with pytest.raises(MissingDependency, match=r"pip install 'selectllm\[quality\]'"):
            work()


QUIET = """
import socket, sys, threading, warnings
import selectllm.quality, selectllm.pool, selectllm.quality.markdown
from selectllm.schemas import POOL
assert "great_expectations" not in sys.modules
path = sys.argv[1]
selectllm.pool.read(path)
assert "great_expectations" not in sys.modules

def refused(*_arguments, **_keywords):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refused
found = selectllm.pool.read(path, judge=selectllm.quality.judge_pool)
selectllm.quality.data_docs(sys.argv[2], [found.verdict], "run")
assert "great_expectations" in sys.modules
print(sorted(thread.name for thread in threading.enumerate()))
warnings.warn("this is heard", UserWarning)
"""


def test_judging_is_quiet_and_stays_on_this_machine(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", QUIET, str(FOLDER / "controls.jsonl"), str(tmp_path / "docs")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    threads = done.stdout.strip()
    assert threads in ("['MainThread']", "['MainThread', 'tqdm_monitor']", "['MainThread', 'Thread-1']")
    assert [line for line in done.stderr.splitlines() if "heard" not in line] == []
    assert "UserWarning: this is heard" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


def test_every_error_here_is_one_of_ours():
    from selectllm.quality.engine import CannotBeJudged

    assert issubclass(CannotBeJudged, QualityError)
    assert issubclass(QualityError, SelectLLMError)
    assert QualityError.exit_code == 1
