"""A model against a baseline, from the settings to the record: annotations, by a judge or of a file, and scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selectllm import cancellation
from selectllm.errors import UsageError
from selectllm.evaluation.alpaca_eval.annotations import Annotations, read_annotations
from selectllm.evaluation.alpaca_eval.length_control import LengthControl, read_control
from selectllm.evaluation.alpaca_eval.outputs import Contest, read_contest
from selectllm.evaluation.alpaca_eval.scores import score
from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings
from selectllm.evaluation.judging.judge import Judged, judge
from selectllm.evaluation.page.alpaca_eval import alpaca_eval_sheet
from selectllm.evaluation.page.build import check_page, write_page
from selectllm.execution import Progress, no_progress
from selectllm.steps.context import Context
from selectllm.store import Store
from selectllm.store.new_files import write_new


@dataclass(frozen=True, eq=False)
class Preferred:
    """The annotations that a model is scored by, and, where a judge was asked for them, what it was asked about."""

    annotations: Annotations
    contest: Contest | None = None
    judged: Judged | None = None

    @property
    def is_cached(self) -> bool:
        """Whether nothing had to be judged."""
        return self.judged is None or self.judged.result.cached


def run_alpaca_eval(settings: AlpacaEvalSettings, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Have a judge compare two models' answers, or read what it has said, and score the model.

    Raises UsageError and PoolError before anything is asked, RunError when the judging cannot be finished.
    """
    with cancellation.propagate_interrupt():
        run = settings.run()
        preferred = prefer_answers(Context(run, Store(run.store), on_progress), settings)
        return publish_alpaca_eval(settings, preferred)


def prefer_answers(context: Context, settings: AlpacaEvalSettings) -> Preferred:
    """Which answers are better: as a file of annotations says, else by the judge of whichever context.

    Raises UsageError where neither is named, and MissingDependency where a page is named that cannot be drawn.
    """
    check_page(settings.page)
    if settings.annotations is not None:
        return Preferred(read_annotations(settings.annotations, settings.model))
    contest = contest_of(settings)
    judged = judge(context, contest.pairs, settings.preference, both_orders=settings.both_orders)
    return Preferred(contest.annotations(judged.preferences, judged.model.selector), contest, judged)


def contest_of(settings: AlpacaEvalSettings) -> Contest:
    """The answers that are to be judged; raises UsageError and PoolError where a file is not named, or at fault."""
    if settings.outputs is None or settings.baseline is None:
        raise UsageError("name --annotations (and --model, if they are of several), or both --outputs and --baseline")
    contest = read_contest(settings.outputs, settings.baseline)
    _control(settings, contest.annotations(np.full(len(contest.pairs), np.nan), ""))  # the fit's files, too
    return contest


def publish_alpaca_eval(settings: AlpacaEvalSettings, preferred: Preferred) -> dict[str, Any]:
    """Score the model, and write the annotations and the page, where files are named for them."""
    contest, judged, annotations = preferred.contest, preferred.judged, preferred.annotations
    if contest is not None and judged is not None and settings.out is not None:
        content = contest.file(judged.preferences, judged.model.selector)
        write_new(Path(settings.out).expanduser(), {"": content}, settings.store)
    record = score(annotations, _control(settings, annotations), settings.resample_seed).record()
    if contest is not None and judged is not None:
        alone = {"outputs_alone": contest.model_alone, "baseline_alone": contest.baseline_alone}
        record |= {"judging": judged.record() | alone, "annotations": settings.out}
    write_page(settings.page, alpaca_eval_sheet(record), settings.store)
    return record | {"page": settings.page}


def _control(settings: AlpacaEvalSettings, annotations: Annotations) -> LengthControl:
    return read_control(annotations, settings.difficulty, settings.regularizer)
