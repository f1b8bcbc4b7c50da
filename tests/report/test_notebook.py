"""What a notebook shows of a run and of its report: whatever a pool holds, no text of it becomes markup."""

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm import RunSettings, select
from selectllm.report.notebook import ROWS, result_html
from tests.conftest import by_id
from tests.report.pages import EVIL, Page, hostile_rows

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")
ELEMENTS = {"div", "p", "code", "table", "thead", "tbody", "tr", "th", "td"}


@pytest.fixture(autouse=True)
def quick_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vega's scripts take seconds to put together."""
    monkeypatch.setattr("selectllm.report.page.scripts.vega", lambda: "window.vegaEmbed = () => {};")


def shown(value: Any) -> Page:
    return Page(value._repr_html_())


def test_a_cell_shows_the_first_rows_with_why_and_where_things_lie(make_run: MakeRun) -> None:
    result = select(make_run(budget=ROWS + 2))
    page = shown(result)
    assert sum(tag == "tr" for tag, _ in page.elements) == 1 + ROWS
    assert "Chose 12 of 60 rows" in page.text
    assert "1 ranked 1 in query " in page.text
    assert result.table()["instruction"][0].as_py()[:60].strip() in page.text
    assert "And 2 more: result.chosen()" in page.text
    assert f"Selection: {result.path()}" in page.text
    assert "fixed rule" in page.text, "what must be said of such a choice"
    assert len(page.html) < 10_000


def test_a_small_selection_is_shown_whole(make_run: MakeRun) -> None:
    page = shown(select(make_run(budget=1, strategy="random")))
    assert sum(tag == "tr" for tag, _ in page.elements) == 2
    assert " more" not in page.text


def test_no_text_of_a_pool_becomes_markup_or_a_formula(make_run: MakeRun, fake_model: Any, tmp_path: Path) -> None:
    pool = tmp_path / "hostile.jsonl"
    rows = [*hostile_rows(), {"instruction": r"$$\href{javascript:alert(1)}{x}$$"}]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fake_model(lambda r: json.dumps({"reason": EVIL[:80]}) if "reason" in r.schema["properties"] else by_id(r))
    result = select(make_run(pool=str(pool), budget=90, reasons=True, selector="ollama:m", criteria=EVIL))
    for start in range(0, 90, ROWS):
        page = Page(result_html(result.summary, result.chosen().slice(start), {"Report": EVIL}))
        assert {tag for tag, _ in page.elements} == ELEMENTS
        assert {name for _, attributes in page.elements for name in attributes} <= {"class", "style", "dir"}
        assert not [mark for mark in "\u202e\u2066\u200b\x1b\x00" if mark in page.html]
    assert page.elements[0] == ("div", {"class": "tex2jax_ignore mathjax_ignore"})


def test_a_run_whose_selection_is_gone_says_so(make_run: MakeRun) -> None:
    result = select(make_run())
    Path(result.path()).unlink()
    page = shown(result)
    assert "The selection cannot be shown" in page.text
    assert "table" not in {tag for tag, _ in page.elements}


def test_a_report_opens_in_a_frame_that_cannot_reach_the_notebook(make_run: MakeRun, tmp_path: Path) -> None:
    result = select(make_run())
    report = result.report(tmp_path / "report.html")
    ((tag, attributes),) = shown(report).elements
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts", "with its own origin it could do whatever the notebook may"
    assert attributes["srcdoc"] == report == (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.escape(report, quote=True) in report._repr_html_()
    assert len(repr(report)) < 100, "a cell keeps this text beside what it shows"


def test_a_results_text_is_short(make_run: MakeRun) -> None:
    assert len(repr(select(make_run()))) < 300
