"""A flow run keeps the report of its selection, and goes on where it cannot."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.selection import select_instructions
from selectllm.report.page import build, scripts
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
    assert f"\n    {file}\n" in shown
    assert "**Lengths**" in shown
    assert 0 < shown.count("(data:image/svg+xml;base64,") <= report.MOST_PICTURES
    assert len(shown) < 100_000


def test_a_run_that_makes_nothing_anew_shows_the_page_of_the_run_before(
    make_run: MakeRun, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run()
    first = str(artifacts(select_instructions(settings, return_state=True))["selection-report"].data)
    made = pages(settings)
    with monkeypatch.context() as patch:
        patch.setattr(build, "make_page", None)  # would fail
        again = str(artifacts(select_instructions(settings, return_state=True))["selection-report"].data)
    run = made[0].removeprefix("reports/").removesuffix(".html")
    sentence = f"The run {run} made it, with the same settings and results. Times and costs are those of that run."
    assert pages(settings) == made
    assert again.split("\n\n") == [*first.split("\n\n")[:3], sentence, *first.split("\n\n")[3:]]
    select_instructions(make_run(seed=8))
    assert len(pages(settings)) == 2, "other settings have another page"


@pytest.mark.parametrize("harm", ["page gone", "page altered", "note altered", "step made again", "code changed"])
def test_a_page_that_is_not_surely_the_same_is_made_anew(
    harm: str, make_run: MakeRun, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run()
    result = select_instructions(settings)
    root = Path(settings.store) / "v1"
    (made,), (note,) = (root / "reports").iterdir(), (root / "kept_reports").iterdir()
    if harm == "page gone":
        made.unlink()
    elif harm == "page altered":
        made.write_bytes(made.read_bytes().replace(b"5 of 60", b"9 of 60"))
    elif harm == "note altered":
        note.write_bytes(note.read_bytes()[:-1])
    elif harm == "step made again":
        (root / "artifacts" / "queries" / f"{result['artifacts']['queries']}.parquet").unlink()
    else:
        monkeypatch.setattr(report, "made_by", lambda: {"code": "another"})
    shown = str(artifacts(select_instructions(settings, return_state=True))["selection-report"].data)
    (new,) = set((root / "reports").iterdir()) - {made}
    assert f"\n    {new}\n" in shown
    assert "5 of 60 rows chosen" in new.read_text(encoding="utf-8")
    assert "made it" not in shown


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

    monkeypatch.setattr(build, "make_page", fail)
    final = select_instructions(make_run(), return_state=True)
    assert final.is_completed()
    assert "There is no report of this run: a defect" in run_log(final, "no report of this run")
