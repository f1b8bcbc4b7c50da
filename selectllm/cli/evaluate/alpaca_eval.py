"""`selectllm evaluate alpaca-eval`: a model's win rate against a baseline, raw and at equal length."""

from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from selectllm.cli.evaluate.judge_options import DEFAULT_JUDGE, JudgeOptions
from selectllm.cli.printing import Json, print_either
from selectllm.errors import UsageError


@Parameter(name="*")
@dataclass(frozen=True)
class FitOptions:
    """What the length-controlled fit goes by, besides the annotations."""

    difficulty: Annotated[
        str | None,
        Parameter(help="Table with `index` and `difficulty` of each question. Without it, the fit goes without."),
    ] = None
    regularizer: Annotated[
        str | None,
        Parameter(
            help="Table of rows that were played for length: `std_delta_len`, `preference` (0 to 1), `difficulty`. "
            "Without it, the fit goes without."
        ),
    ] = None
    resample_seed: Annotated[int, Parameter(help="Decides the rows that the interval is drawn from.")] = 0


@Parameter(name="*")
@dataclass(frozen=True)
class AnswerOptions:
    """Two models' answers to be judged, in the place of annotations."""

    outputs: Annotated[
        str | None, Parameter(help="The model's answers, to be judged: `instruction`, `output`, `generator`.")
    ] = None
    baseline: Annotated[str | None, Parameter(help="The baseline's answers to the same instructions.")] = None
    out: Annotated[str | None, Parameter(help="A new file for the annotations, in AlpacaEval's format.")] = None


DEFAULT_FIT: Final = FitOptions()
NO_ANSWERS: Final = AnswerOptions()


def alpaca_eval(
    *,
    annotations: Annotated[
        str | None,
        Parameter(
            help="File of annotations: AlpacaEval's annotations.json, or a table with `preference` (0 to 1), "
            "`len_baseline` and `len_model`."
        ),
    ] = None,
    model: Annotated[str | None, Parameter(help="The model to score, in a file of annotations of several.")] = None,
    answers: AnswerOptions = NO_ANSWERS,
    fit: FitOptions = DEFAULT_FIT,
    judge: JudgeOptions = DEFAULT_JUDGE,
    json: Json = False,
) -> None:
    """Score a model against a baseline as AlpacaEval 2 does: the win rate, and the length-controlled win rate.

    From `--annotations` no model is asked. From `--outputs` and `--baseline`, a judge is asked which answer is better.
    All replies are kept: a judging that was stopped goes on where it was.

    The interval of the length-controlled win rate is a bootstrap over the questions, in which each draw is fitted anew.

    Examples: `selectllm evaluate alpaca-eval --annotations annotations.json`,
    `selectllm evaluate alpaca-eval --outputs mine.json --baseline theirs.json --selector ollama:llama3.1:8b`
    """
    if annotations is not None:
        if answers != NO_ANSWERS:
            raise UsageError("--annotations holds judgements already: leave out --outputs, --baseline and --out")
        if judge.dry_run:
            raise UsageError("--annotations holds judgements already, and nobody is asked: leave out --dry-run")
        _score_annotations(annotations, model, fit, json=json)
    elif answers.outputs is None or answers.baseline is None or model is not None:
        raise UsageError("name --annotations (and --model, if they are of several), or both --outputs and --baseline")
    else:
        _judge_answers(answers, fit, judge, json=json)


def _score_annotations(file: str, model: str | None, fit: FitOptions, *, json: bool) -> None:
    from selectllm.cli.evaluate.format_scores import format_scores
    from selectllm.evaluation.alpaca_eval.annotations import read_annotations
    from selectllm.evaluation.alpaca_eval.length_control import read_control
    from selectllm.evaluation.alpaca_eval.scores import score

    found = read_annotations(file, model)
    scores = score(found, read_control(found, fit.difficulty, fit.regularizer), fit.resample_seed)
    print_either(scores.record(), format_scores(scores), json=json)


def _judge_answers(contestants: AnswerOptions, fit: FitOptions, judge: JudgeOptions, *, json: bool) -> None:
    from pathlib import Path

    import numpy as np

    from selectllm.cli.evaluate.format_scores import format_judging, format_scores
    from selectllm.evaluation.alpaca_eval.length_control import read_control
    from selectllm.evaluation.alpaca_eval.outputs import read_contest
    from selectllm.evaluation.alpaca_eval.scores import score
    from selectllm.store.new_files import write_new

    out = contestants.out
    if out is not None and "://" in out:
        raise UsageError(f"{out} is a URL: name a path of this machine")
    contest, settings = read_contest(str(contestants.outputs), str(contestants.baseline)), judge.settings()
    unjudged = contest.annotations(np.full(len(contest.pairs), np.nan), settings.selector)
    read_control(unjudged, fit.difficulty, fit.regularizer)  # a file at fault is noticed before a model is asked
    if judge.dry_run:
        judge.print_forecast(contest.pairs, json=json)
        return
    judged = judge.judge(contest.pairs)
    annotations = contest.annotations(judged.preferences, judged.model.selector)
    if out is not None:
        content = contest.file(judged.preferences, judged.model.selector)
        write_new(Path(out).expanduser(), {"": content}, settings.store)
    scores = score(annotations, read_control(annotations, fit.difficulty, fit.regularizer), fit.resample_seed)
    alone = {"outputs_alone": contest.model_alone, "baseline_alone": contest.baseline_alone}
    record = scores.record() | {"judging": judged.record() | alone, "annotations": out}
    print_either(record, f"{format_scores(scores)}\n{format_judging(record['judging'])}", json=json)
