"""Runs a flow from the command line, with the options, the output and the exit codes of the library's own door."""

import logging
from collections.abc import Callable
from typing import Any

from cyclopts import App

from selectllm.cli.main import Json, run_app, show
from selectllm.cli.options import command
from selectllm.errors import SelectLLMError
from selectllm.paths import absolute, redact_url
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Store


def main(flow: Callable[[RunSettings], dict[str, Any]]) -> int:
    """Run the flow with options from the command line; returns the exit code."""

    def select(run: RunSettings, *, json: Json = False) -> int:
        """Choose the N instructions of a pool that are most worth annotating, as a Prefect flow.

        Runs on the Prefect server that PREFECT_API_URL names, else on one that lasts as long as the run.
        """
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addFilter(_without_traceback)
        summary = flow(run)
        # Where the run's own location is not the one, a Variable has named it; it is told without the secrets in it.
        is_ours = absolute(redact_url(run.store)) == absolute(summary["store"])
        show(Result(Store(run.store if is_ours else summary["store"]), summary), run, json=json)
        return 0

    app = App(
        name="python -m flows.selection",
        help_epilogue="Exit codes: 0 done, 1 the run failed, 2 bad usage or bad input.",
    )
    app.default(command(select))
    return run_app(app)


def _without_traceback(record: logging.LogRecord) -> bool:
    """An error of our own says what is wrong and what to do: a traceback through Prefect's engine adds nothing."""
    if record.exc_info and isinstance(record.exc_info[1], SelectLLMError):
        record.exc_info, record.exc_text = None, None
    return True
