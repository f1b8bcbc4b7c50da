"""Verdicts as data, as Markdown and as Data Docs."""

import json
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt

from selectllm.errors import StoreError
from selectllm.quality import Verdict, validate_embeddings, validate_rankings, write_data_docs
from selectllm.quality.verdicts import verdict_markdown
from tests.quality.broken import FOLDER
from tests.quality.samples import (
    HOMES,
    IDS,
    ROWS,
    changed,
    expectation,
    ranks,
    suite_of,
    vectors_of,
    verdict_of,
    write_rows,
)


def test_a_verdict_survives_a_json_round_trip():
    verdict = verdict_of(FOLDER / "mostly_repeats.jsonl")
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


def test_verdicts_and_their_pages_contain_no_pool_text(tmp_path):
    suite = suite_of(
        tmp_path,
        expectation("expect_column_values_to_match_regex", "warning", column="input", regex="<b>&"),
        expectation("expect_column_most_common_value_to_be_in_set", "warning", column="input", value_set=["x"]),
        expectation("expect_column_distinct_values_to_be_in_set", "warning", column="output", value_set=["x"]),
        expectation("expect_table_columns_to_match_set", "warning", column_set=["x"]),
    )
    rows = [{"instruction": f"EVIL <script> {n}\x00", "input": "EVIL", "output": "EVIL", "EVIL": n} for n in range(9)]
    path = write_rows(tmp_path / "pool.jsonl", *rows, {"instruction": "fine", "input": "<b>&"})
    verdict = verdict_of(path, suite)
    index = write_data_docs(tmp_path / "docs", [verdict], "run-1")
    pages = [page.read_text(encoding="utf-8") for page in index.parent.rglob("*.html")]
    for text in (verdict.model_dump_json(), verdict_markdown(verdict), *pages):
        assert "EVIL" not in text
    assert not any("<b>" in page for page in pages if "input" in page and "&lt;b&gt;" not in page)


def test_a_verdict_in_markdown_escapes_foreign_markup(validate_by):
    entry = {**expectation("expect_column_to_exist", column="x"), "meta": {"rule": "<img src=x> | `a` [b](c) *d*\n# e"}}
    _, verdict = validate_by(entry, expectation("expect_column_values_to_be_in_set", column="kind", value_set=["z"]))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(verdict_markdown(verdict))
    assert html.count("<tr>") == verdict.checked + 1
    assert not re.search("<(img|code|a|em|h1)", html)
    assert "&lt;img src=x&gt; | `a` [b](c) *d* # e" in html
    assert "32 of 32" in html
    assert "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..." in html


def test_data_docs_have_a_page_for_every_boundary(tmp_path):
    verdicts = [
        verdict_of(FOLDER / "controls.jsonl"),
        validate_embeddings(vectors_of(changed(3, np.nan)), ROWS),
        validate_rankings(ranks(drop=6), HOMES, max_abstained=0),
    ]
    index = write_data_docs(tmp_path / "new" / "docs", verdicts, "run-1")
    assert index == tmp_path / "new" / "docs" / "index.html"
    pages = {page.stem: page.read_text(encoding="utf-8") for page in index.parent.glob("validations/**/*.html")}
    assert set(pages) == {"pool", "embeddings", "rankings"}
    assert IDS[3] in pages["embeddings"]
    assert "unranked" in pages["rankings"]
    for folder in ("run-1", "run-2"):  # into the same folder again
        write_data_docs(index.parent, verdicts[:1], folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the data docs cannot be written to .*: Not a directory"):
        write_data_docs(tmp_path / "file" / "docs", verdicts, "run-1")
