"""A table is judged where it passes from one step to the next."""

from contextlib import AbstractContextManager

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, State

from selectllm import steps
from selectllm.quality.markdown import markdown
from selectllm.quality.verdicts import Verdict
from selectllm.settings import RunSettings
from selectllm.steps import Judgement, StepResult
from selectllm.store import Store
from tasks.states import TASK_OPTIONS


@task(name="validation", task_run_name="validation of {made.artifact.kind}", **TASK_OPTIONS)
def validate(
    run: RunSettings, made: StepResult, against: StepResult | None = None
) -> Judgement | State[Judgement] | None:
    """Judge the pool, its embeddings or its rankings by their expectations, and show what was found."""
    judgement = steps.validate(Store(run.store), run, made, against, _show)
    if judgement is None:
        return None
    return Completed(name="Cached", data=judgement) if judgement.cached else judgement


def judging(run: RunSettings) -> AbstractContextManager[list[Judgement | None]]:
    """Gather the judgements of a flow run; one that ends the run is told of on its page too."""
    return steps.judging(Store(run.store), run, _show)


def _show(verdict: Verdict) -> None:
    boundary = verdict.boundary
    create_markdown_artifact(
        markdown(verdict), key=f"validation-{boundary}", description=f"Expectations of the {boundary}"
    )
