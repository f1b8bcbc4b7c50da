"""`selectllm evaluate judge-agreement`: a judge against people's or published preferences."""

from selectllm.cli.config import ConfigFile
from selectllm.cli.evaluate.dry_run import DryRun, check_asks, print_forecast
from selectllm.cli.evaluate.written import written_lines
from selectllm.cli.printing import Json, print_either, progress_bars
from selectllm.evaluation.judging.settings import AgreementSettings


def judge_agreement(
    settings: AgreementSettings, *, dry_run: DryRun = False, config: ConfigFile = None, json: Json = False
) -> None:
    """Compare a judge with given preferences: accuracy, Cohen's kappa, position bias, length bias, with intervals.

    Position bias: the mean preference for the answer shown first, less 0.5. It is not known from annotations. Length
    bias: how much more than the given preferences the judge prefers the longer answer. Intervals are bootstraps over
    the pairs. Pairs without a judgement are counted, and count in nothing else.

    Example: `selectllm evaluate judge-agreement --given human.json --selector ollama:llama3.1:8b --both-orders`
    """
    if dry_run:
        from selectllm.evaluation.judging.forecast import forecast_judge
        from selectllm.evaluation.judging.given import read_given

        check_asks(settings.annotations)
        print_forecast(forecast_judge(settings, read_given(settings.given).pairs), json=json)
        return
    from selectllm.cli.evaluate.format_scores import format_agreement, format_judging
    from selectllm.evaluation.judging.run import compare_judge

    with progress_bars(settings.run()) as on_progress:
        record = compare_judge(settings, on_progress)
    judging = [format_judging(record["judging"])] if "judging" in record else []
    print_either(record, "\n".join([format_agreement(record), *judging, *written_lines(record)]), json=json)
