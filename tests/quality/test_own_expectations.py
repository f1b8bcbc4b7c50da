"""User expectations: how they are read, what happens to rows, and the messages about mistakes."""

import re

import pytest

from selectllm.errors import QualityError, UsageError
from selectllm.quality import load_suite
from tests.quality.samples import expectation, finding_of, read_and_validate, suite_of, write_rows, write_suite


@pytest.mark.parametrize(
    ("severity", "kept", "success"),
    [("warning", 20, True), ("info", 30, True), ("critical", 30, False), (None, 30, False)],
)
def test_severity_decides_what_happens_to_rows(validate_by, severity, kept, success):
    entry = expectation("expect_column_values_to_match_regex", severity, column="kind", regex="^(a|b)$")
    pool, verdict = validate_by(entry)
    assert (pool.table.num_rows, verdict.success) == (kept, success)
    finding = finding_of(verdict, "expect_column_values_to_match_regex(kind)")
    assert (finding.count, finding.first[:3], finding.severity) == (10, (3, 6, 9), severity or "critical")
    if not success:
        with pytest.raises(QualityError, match=r"match_regex\(kind\) \(10 of 32, rows 3, 6, 9, \.\.\.\)"):
            verdict.require()


def test_an_expectation_about_the_table_quarantines_nothing(validate_by):
    pool, verdict = validate_by(expectation("expect_table_row_count_to_be_between", "warning", min_value=100))
    assert (pool.table.num_rows, verdict.success) == (30, True)
    rule = "expect_table_row_count_to_be_between"
    assert {"rule": rule, "count": 0, "severity": "warning"} in verdict.summary()["failed"]
    assert finding_of(verdict, rule).observed == 32
    with pytest.raises(QualityError, match=rf"{rule} \(observed 32\)"):
        validate_by(expectation(rule, min_value=100))[1].require()


def test_rows_that_mostly_allows_are_not_quarantined(validate_by):
    rule = "expect_column_values_to_not_be_in_set"
    pool, verdict = validate_by(expectation(rule, "warning", column="kind", value_set=["c"], mostly=0.5))
    assert pool.table.num_rows == 30
    assert finding_of(verdict, "expect_column_values_to_not_be_in_set(kind)").count == 10


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        (expectation("expect_column_values_to_be_unique", "warning", column="id"), 30),
        (expectation("expect_column_values_to_be_unique", "warning", column="kind"), 3),
        (expectation("expect_compound_columns_to_be_unique", "warning", column_list=["kind", "input"]), 3),
    ],
)
def test_the_first_of_duplicate_values_is_kept(validate_by, entry, kept):
    assert validate_by(entry)[0].table.num_rows == kept


BIG = 2**53


@pytest.mark.parametrize(
    ("values", "entry", "failing"),
    [
        (["qa", float("nan"), "qa"], ("match_regex", {"regex": "^qa$"}), []),
        ([1, "qa", "x"], ("match_regex", {"regex": "^(1|qa)$"}), [3]),
        ([["a"], ["b"], []], ("be_of_type", {"type_": "list"}), []),
        ([["a"], ["b"], ["c"]], ("be_in_set", {"value_set": [["a"], ["b"]]}), [3]),
        ([["a"], ["b"], ["a"]], ("be_unique", {}), [3]),
        ([[{"role": "user"}], [{"role": "user"}], [{"role": "bot", "n": 1}]], ("be_unique", {}), [2]),
        ([{"a": 1}, {"a": 2}, {"b": 1}], ("be_unique", {}), []),
        ([BIG, BIG + 1, None], ("be_unique", {}), []),
        ([BIG, BIG + 1, None], ("be_in_set", {"value_set": [BIG]}), [2]),
        ([2**64, 2**64 + 1, 1], ("be_in_set", {"value_set": [2**64, 1]}), [2]),
    ],
)
def test_expectations_see_the_values_of_the_file(tmp_path, values, entry, failing):
    rows = [{"instruction": f"Task number {n}", "x": value} for n, value in enumerate(values)]
    name, arguments = entry
    suite = suite_of(tmp_path, expectation(f"expect_column_values_to_{name}", "warning", column="x", **arguments))
    pool, _ = read_and_validate(write_rows(tmp_path / "pool.jsonl", *rows), suite)
    assert pool.quarantine["row"].to_pylist() == failing


def test_a_suite_in_yaml_names_its_rules_and_reasons(validate_by, tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text("""
name: ours  # and other keys that Great Expectations writes
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
    pool, _ = read_and_validate(tmp_path / "pool.jsonl", suite)
    reasons = dict(zip(pool.quarantine["row"].to_pylist(), pool.quarantine["reason"].to_pylist(), strict=True))
    assert reasons[1] == reasons[2] == f"fails {between} #2"
    assert reasons[3] == "fails known_kind: a kind that we know"
    assert reasons[30] == f"fails known_kind: a kind that we know; fails {between}"


def test_the_digest_of_a_suite_depends_on_its_content(tmp_path):
    entry = expectation("expect_column_to_exist", column="kind")
    yaml = tmp_path / "suite.yml"
    yaml.write_text("# a comment\nexpectations:\n- kwargs:\n    column: kind\n  type: expect_column_to_exist\n")
    plain = load_suite(write_suite(tmp_path, entry)).digest
    assert load_suite(yaml).digest == plain
    assert re.fullmatch("[0-9a-f]{32}", plain)
    others = [
        {**entry, "severity": "warning"},
        expectation("expect_column_to_exist", column="x"),
        {**entry, "meta": {"rule": "x"}},
    ]
    assert len({plain, *(load_suite(write_suite(tmp_path, other)).digest for other in others)}) == 4


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            expectation("expect_column_to_exists", column="x"),
            "knows no expect_column_to_exists; did you mean expect_column_to_e",
        ),
        (expectation("foo"), "knows no foo: see https://"),
        (
            expectation("expect_column_to_exist", colum="x"),
            "takes: column: field required; colum: extra fields not permitted",
        ),
        (
            expectation("expect_column_to_exist", "bad", column="x"),
            "severity 'bad': it can be critical, warning or info",
        ),
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
def test_an_invalid_suite_entry_is_refused(tmp_path, entry, message):
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
def test_an_invalid_suite_file_is_refused(tmp_path, name, content, message):
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
            expectation("expect_column_values_to_not_be_null", column="nope"),
            "a column 'nope', which the pool does not have: name",
        ),
        (expectation("expect_column_pair_values_to_be_equal", column_A="n", column_B="m"), "a column 'm'"),
        (expectation("expect_column_values_to_match_regex", column="kind", regex="("), "Invalid regular expression"),
        (
            expectation("expect_column_mean_to_be_between", column="kind", min_value=1),
            "mean_to_be_between.kind. could not be",
        ),
        (
            expectation("expect_column_mean_to_be_between", column="n", min_value={"$PARAMETER": "x"}),
            "No value found for",
        ),
        (
            expectation("unexpected_rows_expectation", unexpected_rows_query="select 1"),
            "could not be looked at: No provider",
        ),
    ],
)
def test_an_expectation_that_does_not_fit_the_pool_is_an_error(validate_by, entry, message):
    with pytest.raises(UsageError, match=message) as raised:
        validate_by(entry)
    assert str(raised.value).isprintable()


def test_a_missing_expected_column_is_a_finding(validate_by):
    assert not validate_by(expectation("expect_column_to_exist", column="nope"))[1].success
    assert validate_by(expectation("expect_column_to_exist", column="deep"))[1].success
