"""Runs a flow from the command line, with the options, the output and the exit codes of the library's command line."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cyclopts import App

from selectllm.cli.compare import print_comparison
from selectllm.cli.config import ConfigFile
from selectllm.cli.evaluate.overlap import print_overlap
from selectllm.cli.main import new_app, run_app
from selectllm.cli.printing import Json, print_either
from selectllm.cli.select import print_result
from selectllm.comparison.settings import ComparisonSettings
from selectllm.errors import UsageError
from selectllm.evaluation.answers.settings import OverlapSettings
from selectllm.paths import absolute_path, redact_url, redact_users
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Store
from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.text import format_tuning
from tasks.logs import hide_all_tracebacks
from tasks.settings import FlowSettings

DEFAULT_FLOW = FlowSettings()
Flow = Callable[[RunSettings, FlowSettings], dict[str, Any]]
ComparisonFlow = Callable[[ComparisonSettings, FlowSettings], dict[str, Any]]
AssessmentFlow = Callable[[OverlapSettings, FlowSettings], dict[str, Any]]
TuningFlow = Callable[[TuningSettings], dict[str, Any]]


def main(flow: Flow, arguments: list[str] | None = None) -> int:
    """Run the flow with options from the command line; returns the exit code."""
    return run_app(build_flow_app(flow), arguments)


def main_of_comparison(flow: ComparisonFlow, arguments: list[str] | None = None) -> int:
    """Run the flow of a comparison with options from the command line; returns the exit code."""
    return run_app(build_comparison_app(flow), arguments)


def main_of_assessment(flow: AssessmentFlow, arguments: list[str] | None = None) -> int:
    """Run the flow of an assessment with options from the command line; returns the exit code."""
    return run_app(build_assessment_app(flow), arguments)


def main_of_tuning(flow: TuningFlow, arguments: list[str] | None = None) -> int:
    """Run the flow of a fine-tuning with options from the command line; returns the exit code."""
    return run_app(build_tuning_app(flow), arguments)


def build_flow_app(flow: Flow) -> App:
    """Build the application that runs a flow."""
    app = new_app("python -m flows.selection")

    @app.default
    def select(
        settings: RunSettings,
        *,
        flow_settings: FlowSettings = DEFAULT_FLOW,
        config: ConfigFile = None,
        json: Json = False,
    ) -> int:
        """Choose the N instructions of a pool that are most worth annotating, as a Prefect flow.

        Runs on the Prefect server that PREFECT_API_URL names, else on one that lasts as long as the run.
        """
        with _server_errors():
            summary = flow(settings, flow_settings)
        # Where the settings name another location, a Variable has named this one, which stands here without secrets.
        is_same = absolute_path(redact_url(settings.store)) == absolute_path(summary["store"])
        print_result(Result(Store(settings.store if is_same else summary["store"]), summary), settings, json=json)
        return 0

    return app


def build_comparison_app(flow: ComparisonFlow) -> App:
    """Build the application that runs the flow of a comparison."""
    app = new_app("python -m flows.comparison")

    @app.default
    def compare(
        settings: ComparisonSettings,
        *,
        flow_settings: FlowSettings = DEFAULT_FLOW,
        config: ConfigFile = None,
        json: Json = False,
    ) -> int:
        """Compare strategies on your own pool with random draws, as a Prefect flow: each cell is a subflow.

        Runs on the Prefect server that PREFECT_API_URL names, else on one that lasts as long as the run.
        """
        with _server_errors():
            record = flow(settings, flow_settings)
        print_comparison(record, json=json)
        return 0

    return app


def build_assessment_app(flow: AssessmentFlow) -> App:
    """Build the application that runs the flow of an assessment."""
    app = new_app("python -m flows.assessment")

    @app.default
    def assess(
        settings: OverlapSettings,
        *,
        flow_settings: FlowSettings = DEFAULT_FLOW,
        config: ConfigFile = None,
        json: Json = False,
    ) -> int:
        """Compare tuned models' answers with references, as a Prefect flow: each model is a subflow.

        Runs on the Prefect server that PREFECT_API_URL names, else on one that lasts as long as the run.
        """
        with _server_errors():
            record = flow(settings, flow_settings)
        print_overlap(record, json=json)
        return 0

    return app


def build_tuning_app(flow: TuningFlow) -> App:
    """Build the application that runs the flow of a fine-tuning."""
    app = new_app("python -m flows.tuning")

    @app.default
    def tune(settings: TuningSettings, *, json: Json = False) -> int:
        """Fine-tune a model on annotated rows, as a Prefect flow.

        Runs on the Prefect server that PREFECT_API_URL names, else on one that lasts as long as the run.
        """
        with _server_errors():
            record = flow(settings)
        print_either(record, format_tuning(record), json=json)
        return 0

    return app


@contextmanager
def _server_errors() -> Iterator[None]:
    """Say in one sentence what to do where no Prefect server answers."""
    hide_all_tracebacks()
    try:
        yield
    except RuntimeError as error:
        if "Failed to reach API" not in str(error):
            raise
        url = redact_users(os.environ.get("PREFECT_API_URL", "")) or "the profile's URL"
        raise UsageError(
            f"no Prefect server answers at {url}. Start it with `prefect server start`, "
            "or unset PREFECT_API_URL: then the run starts one that lasts as long as it does"
        ) from None
