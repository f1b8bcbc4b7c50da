"""`selectllm evaluate alpaca-eval`: a model's win rate against a baseline, raw and at equal length."""

from collections.abc import Mapping
from typing import Any, Final

from selectllm.cli.config import ConfigFile
from selectllm.cli.evaluate.dry_run import DryRun, check_asks, print_forecast
from selectllm.cli.evaluate.written import written_lines
from selectllm.cli.printing import Json, print_either, progress_bars
from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings

NOTHING_NAMED: Final = AlpacaEvalSettings()


def alpaca_eval(
    settings: AlpacaEvalSettings = NOTHING_NAMED,
    *,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Score a model against a baseline as AlpacaEval 2 does: the win rate, and the length-controlled win rate.

    From `--annotations` no model is asked. From `--outputs` and `--baseline`, a judge is asked which answer is better.
    All replies are kept: a judging that was stopped goes on where it was.

    The interval of the length-controlled win rate is a bootstrap over the questions, in which each draw is fitted anew.

    Examples: `selectllm evaluate alpaca-eval --annotations annotations.json`,
    `selectllm evaluate alpaca-eval --outputs mine.json --baseline theirs.json --selector ollama:llama3.1:8b`
    """
    if dry_run:
        from selectllm.evaluation.alpaca_eval.run import contest_of
        from selectllm.evaluation.judging.forecast import forecast_judge

        check_asks(settings.annotations)
        print_forecast(forecast_judge(settings, contest_of(settings).pairs), json=json)
        return
    from selectllm.evaluation.alpaca_eval.run import run_alpaca_eval

    with progress_bars(settings.run()) as on_progress:
        record = run_alpaca_eval(settings, on_progress)
    print_alpaca_eval(record, json=json)


def print_alpaca_eval(record: Mapping[str, Any], *, json: bool) -> None:
    """Print the scores, and how answers were judged."""
    from selectllm.cli.evaluate.format_scores import format_judging, format_scores

    judging = [format_judging(record["judging"])] if "judging" in record else []
    print_either(record, "\n".join([format_scores(record), *judging, *written_lines(record)]), json=json)
