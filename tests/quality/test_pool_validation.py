"""Validation of pools: which rows are kept and which are quarantined."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.errors import PoolError, QualityError
from selectllm.pool import Pool
from selectllm.quality import Verdict
from tests.pool.reading import read_pool
from tests.quality.broken import FILES, FOLDER, LARGE, Case
from tests.quality.samples import (
    expectation,
    failed,
    finding_of,
    read_and_check,
    read_and_validate,
    suite_of,
    verdict_of,
    write_rows,
)

ROOT = Path(__file__).resolve().parents[2]

Read = Callable[[Path], tuple[Pool, Verdict]]


def check(path: Path, case: Case | str, read: Read = read_and_check) -> None:
    """Check that a file gives the results of its case, and that the counts add up."""
    if isinstance(case, str):
        with pytest.raises(PoolError, match=re.escape(case)) as raised:
            read(path)
        assert str(raised.value).isprintable()
        return
    pool, verdict = read(path)
    reasons = Counter(pool.quarantine["reason"].to_pylist())
    repeats = sum(count for reason, count in reasons.items() if reason.startswith("duplicate of row "))
    faults = {reason: count for reason, count in reasons.items() if not reason.startswith("duplicate of row ")}
    assert (pool.table.num_rows, faults, repeats) == (case.kept, case.reasons, case.duplicates)
    assert (pool.quarantined, pool.duplicates) == (sum(faults.values()), repeats)
    assert pool.rows_read == pool.quarantined + pool.duplicates + pool.table.num_rows
    assert (failed(verdict), verdict.success, verdict.checked) == (case.failed, not case.critical, case.checked)
    assert bool(pool.refused) == (case.kept == 0)
    assert case.refused in pool.refused
    if not case.critical:
        verdict.require()
        return
    with pytest.raises(QualityError) as raised_here:
        verdict.require()
    for rule in case.critical:
        assert re.search(rf"the pool table .* {rule} \((observed .*, rows|1 of 1, columns) \w", str(raised_here.value))
    assert "--no-validate" in str(raised_here.value)


def test_every_corpus_file_has_a_test_case():
    assert {path.name for path in FOLDER.glob("[!.]*")} == set(FILES)
    assert sum(isinstance(case, Case) and bool(case.failed) for case in FILES.values()) >= 40


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_gives_the_expected_verdict(name):
    check(FOLDER / name, FILES[name])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (n % 8 != 0)) for n, name in enumerate(FILES)]
)
def test_great_expectations_agrees_on_a_broken_file(name):
    check(FOLDER / name, FILES[name], read_and_validate)


@pytest.mark.parametrize("name", LARGE)
def test_a_large_broken_file_gives_the_expected_verdict(name, tmp_path):
    content, case = LARGE[name]
    path = tmp_path / name
    path.write_bytes(content())
    check(path, case)


def test_without_validation_only_the_structure_of_rows_is_checked():
    pool = read_pool(str(FOLDER / "controls.jsonl"))
    assert (pool.quarantined, pool.table.num_rows) == (0, 9)


def test_the_example_pool_passes_validation():
    pool, _ = read_and_validate(ROOT / "examples" / "pool.jsonl")
    assert pool.quarantine.select(["row", "reason"]).to_pylist() == [
        {"row": 33, "reason": "has fewer than 2 letters or digits"}  # ???
    ]


def test_real_instructions_pass_validation(shared):
    pool, verdict = read_and_validate(shared / "dolly_3k.jsonl")
    assert (pool.quarantined, pool.duplicates, pool.table.num_rows) == (0, 15, 2981)
    assert failed(verdict) == {"unique_id": 15}


def test_a_duplicate_replaces_an_invalid_first_row(tmp_path):
    path = write_rows(
        tmp_path / "pool.jsonl",
        {"instruction": "Name a river.", "kind": "bad"},
        {"instruction": "Name a river.", "kind": "good"},
        {"instruction": "Name a river.", "kind": "good"},
    )
    only_good = expectation("expect_column_values_to_be_in_set", "warning", column="kind", value_set=["good"])
    pool, _ = read_and_validate(path, suite_of(tmp_path, only_good))
    assert pool.table["row"].to_pylist() == [2]
    reasons = ["fails expect_column_values_to_be_in_set(kind)", "duplicate of row 2"]
    assert pool.quarantine["reason"].to_pylist() == reasons
    assert pool.table["kind"].to_pylist() == ["good"]


def test_a_finding_names_the_first_ten_rows(tmp_path):
    path = write_rows(tmp_path / "pool.jsonl", *({"instruction": "?" if n % 3 else f"Task {n}"} for n in range(21)))
    verdict = verdict_of(path)
    with pytest.raises(QualityError, match=r"near_empty_share \(observed 0.666667; 14 of 21, rows 2, 3, 5, \.\.\.\)"):
        verdict.require()
    finding = finding_of(verdict, "not_near_empty")
    assert (finding.count, finding.rows, finding.first) == (14, 21, (2, 3, 5, 6, 8, 9, 11, 12, 14, 15))
    assert (finding.key, finding.about, finding.severity) == ("row", "rows", "warning")
    assert finding.observed == pytest.approx(14 / 21)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["?", "ab", "Ã©Ã©Ã©", "\x00ab"])


@settings(max_examples=5, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_counts_add_up_for_any_texts(texts, tmp_path_factory):
    path = write_rows(tmp_path_factory.getbasetemp() / "any.jsonl", *({"instruction": text} for text in texts))
    pool, verdict = read_and_validate(path)
    assert pool.rows_read == len(texts) == pool.quarantined + pool.duplicates + pool.table.num_rows
    assert pool.quarantine.num_rows == pool.quarantined + pool.duplicates
    assert bool(pool.refused) == (pool.table.num_rows == 0) == ("usable_rows" in failed(verdict))
