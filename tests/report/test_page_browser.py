"""The page of a run in a real browser: what a reader can do there, and that nothing of a pool runs."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from deployments.screenshots import CHROMIUM, Tab, tab
from selectllm import RunSettings, select
from selectllm.report.result import Result
from tests.report.test_page import hostile_run, with_columns

MakeRun = Callable[..., RunSettings]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_embedding")]

OPEN_ALL = """
(async () => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  const size = document.getElementById("size");
  size.value = "500";
  size.dispatchEvent(new Event("change"));
  for (const button of document.querySelectorAll(".open")) button.click();
  for (const mark of document.querySelectorAll(".chart path, .chart canvas")) {
    for (const kind of ["pointermove", "mousemove", "mouseover", "click"]) {
      mark.dispatchEvent(new MouseEvent(kind, { bubbles: true, clientX: 200, clientY: 200 }));
    }
  }
  await new Promise((done) => setTimeout(done, 1500));
})()
"""

INJECT = """
(async () => {
  document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.__pwned = true'>");
  const script = document.createElement("script");
  script.textContent = "window.__pwned = true";
  document.body.append(script);
  try { (0, eval)("window.__pwned = true"); } catch (error) { /* as it should */ }
  const loaded = await fetch("http://127.0.0.1:9/").then(() => "loaded", (error) => error.message);
  await new Promise((done) => setTimeout(done, 300));
  return `${loaded} ${window.__pwned}`;
})()
"""

VIOLATIONS = """
axe.run().then((found) => JSON.stringify(found.violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with tab(program, tmp_path_factory.mktemp("browser")) as opened:
        opened.do("Emulation.setDeviceMetricsOverride", width=1180, height=900, deviceScaleFactor=1, mobile=False)
        yield opened


def open_page(browser: Tab, result: Result, folder: Path) -> None:
    """Open the page of a run, and wait until its table and charts are there."""
    result.report(folder / "page.html")
    browser.do("Page.navigate", url=f"file://{folder}/page.html")
    end = time.monotonic() + 60
    while (ready := browser.see("document.documentElement.dataset.ready")) is None and time.monotonic() < end:
        time.sleep(0.1)
    assert ready == "true", browser.see("document.getElementById('found').textContent")


def awaited(browser: Tab, expression: str) -> Any:
    """The value of an expression that is a promise."""
    options = {"awaitPromise": True, "returnByValue": True, "allowUnsafeEvalBlockedByCSP": False}
    told = browser.do("Runtime.evaluate", expression=expression, **options)
    assert "exceptionDetails" not in told, told["exceptionDetails"]
    return told["result"].get("value")


def press(browser: Tab, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        browser.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


def order(browser: Tab) -> list[str]:
    found: list[str] = browser.see("[...document.querySelectorAll('#rows tbody th')].map((each) => each.textContent)")
    return found


def test_nothing_of_a_hostile_pool_runs(browser: Tab, make_run: MakeRun, fake_model: Any, tmp_path: Path) -> None:
    open_page(browser, hostile_run(make_run, fake_model, tmp_path), tmp_path)
    awaited(browser, OPEN_ALL)
    assert browser.see("document.querySelectorAll('.more').length") == 120
    assert browser.see("document.querySelectorAll('.more pre').length") > 400
    assert browser.see("document.body.innerText.includes('window.__pwned')"), "the markup is there, as text"
    assert browser.see("typeof window.__pwned") == "undefined"
    assert browser.see("document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert violations(browser) == []


def test_the_policy_stops_what_should_ever_get_onto_the_page(browser: Tab, make_run: MakeRun, tmp_path: Path) -> None:
    open_page(browser, select(make_run()), tmp_path)
    assert awaited(browser, INJECT) == "Failed to fetch undefined"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_has_no_fault_of_accessibility(scheme: str, browser: Tab, make_run: MakeRun, tmp_path: Path) -> None:
    browser.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    run = make_run(pool=with_columns(tmp_path / "p.jsonl", 60), budget=30, ranking={"gather": "ratings"})
    open_page(browser, select(run), tmp_path)
    assert violations(browser) == []
    awaited(browser, OPEN_ALL)
    assert violations(browser) == []
    browser.do("Emulation.setEmulatedMedia", features=[])


def violations(browser: Tab) -> list[Any]:
    """What axe-core finds."""
    spec = find_spec("axe_playwright_python")
    if spec is None:
        pytest.skip("axe-core is not installed: make setup brings it")
    (folder,) = spec.submodule_search_locations or ()
    browser.do("Runtime.evaluate", expression=(Path(folder) / "axe.min.js").read_text(encoding="utf-8"))
    return list(json.loads(awaited(browser, VIOLATIONS)))


def test_a_reader_searches_filters_sorts_and_opens_rows_by_the_keyboard(
    browser: Tab, make_run: MakeRun, tmp_path: Path
) -> None:
    result = select(make_run(pool=with_columns(tmp_path / "p.jsonl", 60), budget=30, ranking={"gather": "ratings"}))
    chosen = result.table().to_pylist()
    open_page(browser, result, tmp_path)
    assert order(browser) == [str(n) for n in range(1, 21)], "the first page"

    wanted = chosen[24]
    name = wanted["instruction"].split(":")[0].lower()
    browser.see("document.getElementById('search').focus()")
    browser.do("Input.insertText", text=f"{name}:")
    assert order(browser) == ["25"]
    assert browser.see("document.getElementById('found').textContent") == "1 of 30 rows match"
    browser.see("document.querySelector('#rows .open').focus()")
    press(browser, "Enter", 13)
    time.sleep(0.5)
    text = browser.see("document.querySelector('.more').innerText")
    assert wanted["id"][:12] in text
    assert "this row at position" in text
    press(browser, "Enter", 13)
    assert browser.see("document.querySelector('.more')") is None

    browser.see("document.getElementById('search').value = ''")
    filters = "document.querySelectorAll('#filters select')[0]"
    browser.see(f"{filters}.value = '1'; {filters}.dispatchEvent(new Event('change'))")
    label = browser.see(f"{filters}.selectedOptions[0].textContent")
    assert order(browser) == [str(row["order"]) for row in chosen if row["source"] == label][:20]
    browser.see(f"{filters}.value = ''; {filters}.dispatchEvent(new Event('change'))")

    browser.see("document.querySelector('th[data-sort=length] button').focus()")
    press(browser, "Enter", 13)
    assert browser.see("document.querySelector('th[data-sort=length]').getAttribute('aria-sort')") == "ascending"
    by_length = sorted(chosen, key=lambda row: (len(row["instruction"]), row["order"]))
    assert order(browser) == [str(row["order"]) for row in by_length[:20]]
    browser.see("document.getElementById('next').click()")
    assert order(browser) == [str(row["order"]) for row in by_length[20:]]
