"""The flow's command line has the options of the library's and those of its workers."""

import logging
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("prefect", reason="Prefect is not installed")
pytestmark = pytest.mark.filterwarnings("default")

from prefect.context import SettingsContext  # noqa: E402
from prefect.exceptions import ParameterTypeError  # noqa: E402
from prefect.settings import (  # noqa: E402
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    Profile,
    Settings,
    temporary_settings,
)

from flows.commands import selection_app  # noqa: E402
from selectllm.cli.main import run_app  # noqa: E402
from selectllm.errors import HostUnreachable, UsageError  # noqa: E402
from selectllm.settings import RunSettings  # noqa: E402
from tasks.logs import LOGGERS, hide_own_tracebacks  # noqa: E402
from tasks.server import server_problem  # noqa: E402
from tasks.settings import FlowSettings  # noqa: E402

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], FlowSettings()),
        (["--runner", "dask", "--workers", "3"], FlowSettings(runner="dask", workers=3)),
        (["--runner-address", "tcp://h:1"], FlowSettings(runner_address="tcp://h:1")),
        (["--no-report"], FlowSettings(no_report=True)),
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

    assert run_app(selection_app(flow), ["p.jsonl", "--budget", "4", *arguments]) == 2
    ((settings, flow_settings),) = calls
    assert (settings.pool, settings.budget, settings.ranking.depth) == ("p.jsonl", 4, 7)
    assert flow_settings == expected


def test_an_invalid_flow_option_is_one_error_line(capsys: pytest.CaptureFixture[str]) -> None:
    def flow(*_: object) -> dict[str, Any]:
        raise AssertionError("nothing is run")

    assert run_app(selection_app(flow), ["p.jsonl", "--budget", "4", "--workers", "0"]) == 2
    assert capsys.readouterr().err == (
        "selectllm: --workers should be greater than or equal to 1, not '0'. See --help\n"
    )


@pytest.fixture(autouse=True)
def unfiltered() -> Iterator[None]:
    """Prefect's loggers without the filters of a flow."""
    before = {name: list(logging.getLogger(name).filters) for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).filters = []
    yield
    for name, filters in before.items():
        logging.getLogger(name).filters = filters


def test_a_prefect_server_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flow(*_: object) -> dict[str, Any]:
        raise RuntimeError("Failed to reach API at http://127.0.0.1:9/api/")

    monkeypatch.setenv("PREFECT_API_URL", "http://user:secret@127.0.0.1:9/api")
    assert run_app(selection_app(flow), ["p.jsonl", "--budget", "4"]) == 2
    assert capsys.readouterr().err == (
        "selectllm: no Prefect server answers at http://127.0.0.1:9/api. Start it with `prefect server start`, or "
        "unset PREFECT_API_URL: then the run starts one that lasts as long as it does\n"
    )


def refusal(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://127.0.0.1:9/api/flows/")
    return httpx.HTTPStatusError("refused", request=request, response=httpx.Response(status, request=request))


UNREACHED = RuntimeError("Failed to reach API at somewhere")


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("http://u:secret@h:1/api", refusal(401), "server at http://h:1/api wants a password.*PREFECT_API_AUTH_STRING"),
        ("http://h:1/api", refusal(403), "wants a password.*export PREFECT_API_AUTH_STRING"),
        ("http://h:1", UNREACHED, "PREFECT_API_URL=http://h:1: .*begins with http:// or https:// and ends with /api"),
        (
            "u:secret@h:1/api",
            UNREACHED,
            "PREFECT_API_URL=h:1/api: .*begins with http:// or https:// and ends with /api",
        ),
        ("http://h:1", refusal(404), "ends with /api"),
        ("h:1/api", httpx.UnsupportedProtocol("no protocol"), "begins with http://"),
        ("http://h:1/api", UNREACHED, None),
        ("https://api.prefect.cloud/api/accounts/1/workspaces/2", UNREACHED, None),
        ("http://h:1/api", refusal(500), None),
        ("http://h:1", refusal(500), None),
    ],
)
def test_a_wrong_password_or_url_of_the_prefect_server_is_named(
    url: str, error: Exception, message: str | None
) -> None:
    problem = server_problem(error, url)
    if message is None:
        assert problem is None
    else:
        assert problem is not None
        assert re.search(message, problem)
        assert "secret" not in problem


def test_a_prefect_server_that_wants_a_password_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flow(*_: object) -> dict[str, Any]:
        raise refusal(401)

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert run_app(selection_app(flow), ["p.jsonl", "--budget", "4"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("selectllm: the Prefect server at http://127.0.0.1:9/api wants a password")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("own", "expected"), [({}, 30), ({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60}, 60)])
def test_a_run_sends_heartbeats_often_enough_not_to_be_taken_for_killed(own: dict[Any, int], expected: int) -> None:
    sent = []

    def flow(*_: object) -> dict[str, Any]:
        sent.append(PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value())
        raise UsageError("ends here")

    # The tests of flows send none.
    with SettingsContext(profile=Profile(name="new", settings={}), settings=Settings()), temporary_settings(own):
        assert run_app(selection_app(flow), ["p.jsonl", "--budget", "4"]) == 2
    assert sent == [expected]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_worker_logs_own_errors_without_a_traceback(name: str) -> None:
    hide_own_tracebacks()
    hide_own_tracebacks()
    logger = logging.getLogger(name)
    errors = ((HostUnreachable("no server"), True), (ParameterTypeError("selector"), True), (OverflowError("x"), False))
    for error, is_hidden in errors:
        record = logger.makeRecord(name, logging.ERROR, "", 0, "failed", (), (type(error), error, None))
        assert logger.filter(record)
        assert (record.exc_info is None) is is_hidden


def test_the_reference_of_the_command_lines_is_current() -> None:
    page = runpy.run_path(str(DOCS / "cli_reference.py"))["reference"]()
    assert page == (DOCS / "cli.md").read_text(encoding="utf-8"), "run `python docs/cli_reference.py`"
    assert "\x1b" not in page
