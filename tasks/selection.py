"""The budget's rows are chosen, and published."""

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.states import State

from selectllm import steps
from selectllm.llm import ModelInfo
from selectllm.report.format import markdown, shown_rows
from selectllm.report.result import publish as publish_run
from selectllm.settings import RunSettings
from selectllm.steps import Judgement, StepResult
from selectllm.store import Store
from tasks.states import TASK_OPTIONS, as_cached_state


@task(name="selection", **TASK_OPTIONS)
def choose(
    run: RunSettings, pool: StepResult, rankings: StepResult, played: StepResult | None, excluded: StepResult | None
) -> StepResult | State[StepResult]:
    """Choose exactly as many rows as the budget."""
    store = Store(run.store)
    return as_cached_state(store, steps.choose(store, run, pool, rankings, played, excluded))


@task(name="publish", **TASK_OPTIONS)
def publish(
    run: RunSettings, card: ModelInfo, made: Sequence[StepResult | None], judgements: Sequence[Judgement | None]
) -> dict[str, Any]:
    """Record the run, write the output folder, and show the summary and the selection on the run's page."""
    done = publish_run(Store(run.store), run, card, made, judgements)
    create_markdown_artifact(markdown(done), key="selection-summary", description="What the run did and chose")
    create_table_artifact(shown_rows(done.table()), key="selection", description=f"The first rows of {done.path()}")
    return done.summary
