"""The pages of evaluations in a real browser: nothing of a name runs, and nobody is shut out."""

from pathlib import Path

import pytest

from deployments.screenshots import Tab
from selectllm.evaluation.page.build import to_html
from tests.evaluation.test_evaluation_page import hostile_sheet
from tests.report.test_page_browser import INJECT, awaited, browser, violations  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_names_are_text_and_nothing_is_loaded(scheme: str, browser: Tab, tmp_path: Path) -> None:  # noqa: F811
    browser.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    (tmp_path / "page.html").write_text(to_html(hostile_sheet()), encoding="utf-8")
    browser.do("Page.navigate", url=f"file://{tmp_path}/page.html")
    ready = "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))"
    awaited(browser, ready)
    assert browser.see("document.title").startswith("</script><img")
    assert browser.see("document.querySelectorAll('svg').length") == 1
    assert browser.see("document.querySelectorAll('img, iframe, object, embed, script').length") == 0
    assert browser.see("typeof window.__pwned") == "undefined"
    assert violations(browser) == []
    assert awaited(browser, INJECT) == "Failed to fetch undefined"
    browser.do("Emulation.setEmulatedMedia", features=[])
