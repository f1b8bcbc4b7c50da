"""Runs a flow from the command line, with the options, the output and the exit codes of the library's command line."""

import logging
from collections.abc import Callable
from typing import Any

from cyclopts import App

from selectllm.cli.main import new_app, run_app
from selectllm.cli.printing import Json
from selectllm.cli.select import print_result
from selectllm.paths import absolute_path, redact_url
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Store
from tasks.settings import FlowSettings

DEFAULT_FLOW = FlowSettings()
Flow = Callable[[RunSettings, FlowSettings], dict[str, Any]]


def main(flow: Flow, arguments: list[str] | None = None) -> int:
    """Run the flow with options from the command line; returns the exit code."""
    return run_app(build_flow_app(flow), arguments)


def build_flow_app(flow: Flow) -> App:
    """Build the application that runs a flow."""
    app = new_app("python -m flows.selection")

    @app.default
    def select(settings: RunSettings, *, flow_settings: FlowSettings = DEFAULT_FLOW, json: Json = False) -> int:
        """Choose the N instructions of a pool that are most worth annotating, as a Prefect flow.

        Runs on the Prefect server that PREFECT_API_URL names, else on one that lasts as long as the run.
        """
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addFilter(_without_traceback)
        summary = flow(settings, flow_settings)
        # Where the settings name another location, a Variable has named this one, which stands here without secrets.
        is_same = absolute_path(redact_url(settings.store)) == absolute_path(summary["store"])
        print_result(Result(Store(settings.store if is_same else summary["store"]), summary), settings, json=json)
        return 0

    return app


def _without_traceback(record: logging.LogRecord) -> bool:
    """Print errors without a traceback: ours say what is wrong, and that of any other is kept in a file."""
    if record.exc_info:
        record.exc_info, record.exc_text = None, None
    return True
