"""The flow's command line has the options of the library's and those of its workers."""

import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prefect", reason="Prefect is not installed")
pytestmark = pytest.mark.filterwarnings("default")

from flows.command_line import main  # noqa: E402
from selectllm.errors import UsageError  # noqa: E402
from selectllm.settings import RunSettings  # noqa: E402
from tasks.settings import FlowSettings  # noqa: E402

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], FlowSettings()),
        (["--runner", "dask", "--workers", "3"], FlowSettings(runner="dask", workers=3)),
        (["--runner-address", "tcp://h:1"], FlowSettings(runner_address="tcp://h:1")),
    ],
)
def test_the_flow_gets_settings_of_the_run_and_of_the_flow(
    arguments: list[str], expected: FlowSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "7")
    calls: list[tuple[RunSettings, FlowSettings]] = []

    def flow(settings: RunSettings, flow_settings: FlowSettings) -> dict[str, Any]:
        calls.append((settings, flow_settings))
        raise UsageError("enough")

    assert main(flow, ["p.jsonl", "--budget", "4", *arguments]) == 2
    ((settings, flow_settings),) = calls
    assert (settings.pool, settings.budget, settings.ranking.depth) == ("p.jsonl", 4, 7)
    assert flow_settings == expected


def test_an_invalid_flow_option_is_one_error_line(capsys: pytest.CaptureFixture[str]) -> None:
    def flow(*_: object) -> dict[str, Any]:
        raise AssertionError("nothing is run")

    assert main(flow, ["p.jsonl", "--budget", "4", "--workers", "0"]) == 2
    assert capsys.readouterr().err == (
        "selectllm: --workers should be greater than or equal to 1, not '0'. See --help\n"
    )


def test_the_reference_of_the_command_lines_is_current() -> None:
    page = runpy.run_path(str(DOCS / "cli_reference.py"))["reference"]()
    assert page == (DOCS / "cli.md").read_text(encoding="utf-8"), "run `python docs/cli_reference.py`"
    assert "\x1b" not in page
