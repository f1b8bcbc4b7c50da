"""`selectllm evaluate judge-agreement`: a judge against people's or published preferences."""

from typing import Annotated

from cyclopts import Parameter

from selectllm.cli.evaluate.judge_options import DEFAULT_JUDGE, JudgeOptions
from selectllm.cli.printing import Json, print_either
from selectllm.errors import UsageError


def judge_agreement(
    *,
    given: Annotated[
        str,
        Parameter(
            help="File of people's or published preferences: `instruction`, `output_1`, `output_2`, `preference` (1 to "
            "2, 0 for a draw)."
        ),
    ],
    annotations: Annotated[
        str | None,
        Parameter(help="The judge's annotations of the same pairs. Without it, the judge is asked."),
    ] = None,
    resample_seed: Annotated[int, Parameter(help="Decides the rows that the intervals are drawn from.")] = 0,
    judge: JudgeOptions = DEFAULT_JUDGE,
    json: Json = False,
) -> None:
    """Compare a judge with given preferences: accuracy, Cohen's kappa, position bias, length bias, with intervals.

    Position bias: the mean preference for the answer shown first, less 0.5. It is not known from annotations. Length
    bias: how much more than the given preferences the judge prefers the longer answer. Intervals are bootstraps over
    the pairs. Pairs without a judgement are counted, and count in nothing else.

    Example: `selectllm evaluate judge-agreement --given human.json --selector ollama:llama3.1:8b --both-orders`
    """
    from selectllm.cli.evaluate.format_scores import format_agreement, format_judging
    from selectllm.evaluation.judging.agreement import agreement
    from selectllm.evaluation.judging.given import read_given, read_judged

    pairs = read_given(given)
    if judge.dry_run:
        if annotations is not None:
            raise UsageError("--annotations holds judgements already, and nobody is asked: leave out --dry-run")
        judge.print_forecast(pairs.pairs, json=json)
        return
    if annotations is not None:
        found = agreement(pairs.compared(read_judged(annotations, pairs)), resample_seed)
        print_either(found.record(), format_agreement(found), json=json)
        return
    judged = judge.judge(pairs.pairs)
    found = agreement(pairs.compared(judged.preferences, judged.first_shown), resample_seed)
    record = found.record() | {"judging": judged.record()}
    print_either(record, f"{format_agreement(found)}\n{format_judging(record['judging'])}", json=json)
