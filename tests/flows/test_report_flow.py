"""A flow run keeps the report of its selection, and goes on where it cannot."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.selection import select_instructions
from selectllm.report.page import scripts
from selectllm.settings import RunSettings
from selectllm.store import Store
from tasks import report
from tasks.settings import FlowSettings

MakeRun = Callable[..., RunSettings]
Artifacts = Callable[[Any], dict[str, Any]]
pytestmark = [pytest.mark.usefixtures("quick_embedding", "with_pages"), pytest.mark.filterwarnings("default")]


@pytest.fixture
def with_pages(pageless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.selection.show_report", report.show_report)
    monkeypatch.setattr(scripts, "vega", lambda: "")


def pages(settings: RunSettings) -> list[str]:
    return Store(settings.store).list("reports")


def test_a_flow_run_keeps_its_page_beside_the_artifacts(make_run: MakeRun, artifacts: Artifacts) -> None:
    settings = make_run()
    final = select_instructions(settings, return_state=True)
    (name,) = pages(settings)
    file = Path(settings.store) / "v1" / name
    assert "5 of 60 rows chosen" in file.read_text(encoding="utf-8")
    shown = str(artifacts(final)["selection-report"].data)
    assert f"`{file}`" in shown
    assert "**Lengths**" in shown
    assert 0 < shown.count("(data:image/svg+xml;base64,") <= report.MOST_PICTURES
    assert len(shown) < 100_000


def test_no_report_is_made_where_none_is_wanted(make_run: MakeRun, artifacts: Artifacts) -> None:
    settings = make_run()
    final = select_instructions(settings, FlowSettings(no_report=True), return_state=True)
    assert pages(settings) == []
    assert "selection-report" not in artifacts(final)


def test_a_run_without_the_extra_goes_on_and_says_once_that_it_has_no_report(
    make_run: MakeRun,
    artifacts: Artifacts,
    run_log: Callable[[Any, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    settings = make_run()
    final = select_instructions(settings, return_state=True)
    assert final.result()["selection"]["selected"] == 5
    assert "selection-report" not in artifacts(final)
    log = run_log(final, "no report of this run")
    assert log.count("There is no report of this run: the report of a run needs the package") == 1
    assert "Traceback" not in log


def test_a_page_that_cannot_be_made_fails_no_run(
    make_run: MakeRun, run_log: Callable[[Any, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(report, "make_page", fail)
    final = select_instructions(make_run(), return_state=True)
    assert final.is_completed()
    assert "There is no report of this run: a defect" in run_log(final, "no report of this run")
