"""The commands of the flows: the settings of each, what prints its record, and its help.

Each function imports what its own flow needs.
"""

from collections.abc import Callable
from typing import Any

from cyclopts import App

from flows.command_line import Command, Record, build_app
from selectllm.cli.printing import print_either
from selectllm.cli.select import print_result
from selectllm.paths import absolute_path, redact_url
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Store

Flow = Callable[..., Record]


def selection_app(flow: Flow) -> App:
    """The application of the flow that chooses rows."""
    about = "Choose the N instructions of a pool that are most worth annotating, as a Prefect flow."
    return build_app("flows.selection", select=Command(RunSettings, flow, _show_selection, about))


def comparison_app(flow: Flow) -> App:
    """The application of the flow that compares strategies."""
    from selectllm.cli.compare import print_comparison
    from selectllm.comparison.settings import ComparisonSettings

    about = "Compare strategies on your own pool with random draws, as a Prefect flow: each cell is a subflow."
    return build_app("flows.comparison", compare=Command(ComparisonSettings, flow, _shown(print_comparison), about))


def assessment_app(overlap: Flow, mt_bench: Flow, alpaca_eval: Flow) -> App:
    """The application of the flows that evaluate models by their answers."""
    from selectllm.cli.evaluate.alpaca_eval import print_alpaca_eval
    from selectllm.cli.evaluate.mt_bench import print_mt_bench
    from selectllm.cli.evaluate.overlap import print_overlap
    from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings
    from selectllm.evaluation.answers.settings import OverlapSettings
    from selectllm.evaluation.mt_bench.settings import MtBenchSettings

    abouts = (
        "Compare tuned models' answers with references, as a Prefect flow: each model is a subflow.",
        "Have models answer MT-Bench's questions, and a judge judge them, as a Prefect flow: each model is a subflow.",
        "Have a judge compare a model's answers with a baseline's, and score it, as a Prefect flow.",
    )
    return build_app(
        "flows.assessment",
        overlap=Command(OverlapSettings, overlap, _shown(print_overlap), abouts[0]),
        mt_bench=Command(MtBenchSettings, mt_bench, _shown(print_mt_bench), abouts[1]),
        alpaca_eval=Command(AlpacaEvalSettings, alpaca_eval, _shown(print_alpaca_eval), abouts[2]),
    )


def tuning_app(flow: Flow) -> App:
    """The application of the flow that fine-tunes a model."""
    from selectllm.tuning.settings import TuningSettings

    about = "Fine-tune a model on annotated rows, as a Prefect flow."
    return build_app("flows.tuning", tune=Command(TuningSettings, flow, _show_tuning, about, has_workers=False))


def _show_selection(summary: Record, settings: RunSettings, json: bool) -> None:
    # Where the settings name another location, a Variable has named this one, which stands here without secrets.
    is_same = absolute_path(redact_url(settings.store)) == absolute_path(summary["store"])
    print_result(Result(Store(settings.store if is_same else summary["store"]), summary), settings, json=json)


def _show_tuning(record: Record, _settings: Any, json: bool) -> None:
    from selectllm.tuning.text import format_tuning

    print_either(record, format_tuning(record), json=json)


def _shown(show: Callable[..., None]) -> Callable[[Record, Any, bool], None]:
    return lambda record, _settings, json: show(record, json=json)
