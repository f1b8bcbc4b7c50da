"""Rules in both forms, and Great Expectations: quiet, without network, and safe with other threads."""

import logging
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.errors import ContractError, MissingDependency, QualityError, SelectLLMError
from selectllm.quality import check_rankings, load_suite, validate_embeddings, validate_rankings
from selectllm.quality.engine import CannotValidate, evaluate, validate
from selectllm.quality.gx import new_context, quiet
from selectllm.quality.pool_rules import ALL_ROWS, USABLE_ROWS
from selectllm.quality.rules import (
    FAILING_ROWS,
    OBSERVED,
    FactTable,
    Rule,
    allow,
    between,
    row_count,
    share,
    unique,
)
from tests.quality.broken import FOLDER
from tests.quality.samples import HOMES, ROWS, UNIT, changed, finding_of, ranks, vectors_of


def test_every_built_in_rule_has_a_unique_name():
    names = [rule.name for rule in (*ALL_ROWS, *USABLE_ROWS)]
    assert len(set(names)) == len(names)


RULES = (
    allow("allowed", "text", "a"),
    Rule("forbidden", "expect_column_values_to_not_be_in_set", {"column": "text", "value_set": ["a"]}),
    allow("true", "is_true", True),
    between("inside", "number", low=-1, high=1),
    between("low_enough", "count", high=2),
    unique("once", "text"),
    unique("once_together", "text", "count"),
    Rule("same", "expect_column_pair_values_to_be_equal", {"column_A": "count", "column_B": "other"}),
    share("some", "is_true_number", 1, strict=True),
    share("half", "is_true_number", 0.5),
    Rule("few", "expect_column_sum_to_be_between", {"column": "is_true_number", "max_value": 2}),
    row_count(3),
)
FACTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", ""]),
        st.booleans(),
        st.floats() | st.sampled_from([-1.0, 1.0]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15, deadline=None)
@given(rows=FACTS)
def test_both_forms_of_a_rule_agree_on_any_facts(rows):
    text, is_true, number, count, other = (list(column) for column in zip(*rows, strict=True))
    facts = {
        "row": np.arange(len(rows)),
        "text": np.array(text, dtype=object),
        "is_true": np.array(is_true),
        "number": np.array(number, dtype=float),
        "count": np.array(count, dtype=np.int32),
        "other": np.array(other),
        "is_true_number": np.array(is_true, dtype=float),
    }
    table = FactTable("row", facts, RULES)
    findings = validate(table)  # raises ContractError where the two differ
    assert [finding.model_copy(update={"observed": None}) for finding in findings] == [
        result.finding.model_copy(update={"observed": None}) for result in table.check()
    ]


@pytest.mark.parametrize(
    ("forms", "type_", "wrong", "rule"),
    [
        (FAILING_ROWS, "expect_column_values_to_be_in_set", lambda *_: np.array([True, False]), allow("good", "n", 1)),
        (OBSERVED, "expect_column_mean_to_be_between", lambda *_: 2.0, share("good", "n", 1)),
    ],
)
def test_two_forms_that_disagree_raise_an_error(monkeypatch, forms, type_, wrong, rule):
    monkeypatch.setitem(forms, type_, wrong)
    table = FactTable("row", {"row": np.arange(2), "n": np.array([1, 1])}, (rule,))
    with pytest.raises(
        ContractError, match=r"the rule good has two results: .* holds, .*check that it fails, .*defect"
    ):
        validate(table)


def test_a_cheap_check_finds_the_first_finding_of_validation():
    table = ranks((2, "rank", 4))
    with pytest.raises(ContractError) as raised:
        check_rankings(table, HOMES)
    finding = raised.value.evidence.findings[0]
    assert finding == finding_of(validate_rankings(table, HOMES, max_abstained=1), finding.rule)


def test_validation_works_from_several_threads():
    tables = [vectors_of(changed(row, np.nan)) for row in range(8)]
    with ThreadPoolExecutor(4) as threads:
        verdicts = list(threads.map(lambda table: validate_embeddings(table, ROWS), tables))
    assert [finding_of(verdict, "finite").first for verdict in verdicts] == [(f"{row:032x}",) for row in range(8)]


def test_a_rule_that_cannot_be_evaluated_gives_no_verdict():
    rule = Rule("rule", "expect_column_values_to_not_be_null", {"column": "gone"})
    with pytest.raises(QualityError, match="rule could not be looked at"):
        evaluate(FactTable("id", {"id": np.array(["a"])}, (rule,)))


def test_a_missing_package_error_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "great_expectations", raising=False)
    monkeypatch.setattr("selectllm.quality.gx.find_spec", lambda _name: None)
    for work in (
        lambda: validate_embeddings(vectors_of(UNIT), ROWS),
        lambda: load_suite(tmp_path / "suite.json"),
        new_context,
    ):
        with pytest.raises(MissingDependency, match=r"pip install 'selectllm\[quality\]'"):
            work()


def test_quality_errors_are_selectllm_errors():
    assert issubclass(CannotValidate, QualityError)
    assert issubclass(QualityError, SelectLLMError)
    assert QualityError.exit_code == 1


def test_a_quiet_thread_keeps_the_warnings_of_other_threads():
    is_quiet, may_leave, has_left = threading.Event(), threading.Event(), threading.Event()
    before = list(warnings.filters)

    def work() -> None:
        with quiet(), warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("error")  # does nothing, so other threads are not affected
            logging.captureWarnings(True)
            is_quiet.set()
            assert may_leave.wait(10)
            warnings.warn("nobody sees this", UserWarning, stacklevel=1)
        assert recorded == []
        has_left.set()

    with ThreadPoolExecutor(1) as threads, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = threads.submit(work)
        assert is_quiet.wait(10)
        warnings.warn("one", UserWarning, stacklevel=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn("ignored here", UserWarning, stacklevel=1)
        warnings.warn("two", UserWarning, stacklevel=1)
        may_leave.set()
        assert has_left.wait(10)
        done.result()
        warnings.warn("three", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["one", "two", "three"]
    assert list(warnings.filters) == before
    assert not hasattr(warnings.catch_warnings.__enter__, "__wrapped__")
    assert not hasattr(logging.captureWarnings, "__wrapped__")


BESIDE_OTHERS = """
import socket, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from selectllm import pool, quality
assert "great_expectations" not in sys.modules
parsed = pool.parse(pool.fetch(sys.argv[1]), pool.Columns())
check = quality.check_pool(parsed)
assert pool.partition(parsed, check.reasons).quarantined == 6
assert "great_expectations" not in sys.modules

def refused(*_arguments, **_keywords):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refused
filters = list(warnings.filters)
with ThreadPoolExecutor(1) as threads:
    validation = threads.submit(quality.validate_pool, check)
    while not validation.done():
        time.sleep(0.05)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("seen", UserWarning)
        assert [str(warning.message) for warning in caught] == ["seen"], caught
    verdict = validation.result()
assert [each for each in warnings.filters if "_QuietThread" not in str(each)] == filters
quality.write_data_docs(sys.argv[2], [verdict], "run")
assert "great_expectations" in sys.modules
print(sorted(thread.name for thread in threading.enumerate()))
warnings.warn("this is seen", UserWarning)
"""


CHECKED = """
import sys

class NotInstalled:
    def find_spec(self, name, *_):
        if name in ("pandas", "great_expectations"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
from selectllm import pool, quality
parsed = pool.parse(pool.fetch(sys.argv[1]), pool.Columns())
assert pool.partition(parsed, quality.check_pool(parsed).reasons).quarantined == 6
"""


def test_the_cheap_check_needs_neither_pandas_nor_great_expectations():
    subprocess.run([sys.executable, "-c", CHECKED, str(FOLDER / "controls.jsonl")], check=True)


def test_validation_prints_nothing_sends_nothing_and_does_not_affect_other_threads(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", BESIDE_OTHERS, str(FOLDER / "controls.jsonl"), str(tmp_path / "docs")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    threads = done.stdout.strip()
    assert threads in ("['MainThread']", "['MainThread', 'tqdm_monitor']", "['MainThread', 'Thread-1']")
    assert [line for line in done.stderr.splitlines() if "seen" not in line] == []
    assert "UserWarning: this is seen" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
