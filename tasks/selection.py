"""The budget's rows are chosen, and published."""

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.states import State

from selectllm import steps
from selectllm.display import markdown, shown_rows
from selectllm.models import ModelCard
from selectllm.result import publish as publish_run
from selectllm.settings import RunSettings
from selectllm.steps import Judgement, Made
from selectllm.store import Store
from tasks.states import OURS, state_of


@task(name="selection", **OURS)
def choose(
    run: RunSettings, pool: Made, rankings: Made, played: Made | None, excluded: Made | None
) -> Made | State[Made]:
    """Choose exactly as many rows as the budget."""
    store = Store(run.store)
    return state_of(store, steps.choose(store, run, pool, rankings, played, excluded))


@task(name="publish", **OURS)
def publish(
    run: RunSettings, card: ModelCard, made: Sequence[Made | None], judgements: Sequence[Judgement | None]
) -> dict[str, Any]:
    """Record the run, write the output folder, and show the summary and the selection on the run's page."""
    done = publish_run(Store(run.store), run, card, made, judgements)
    create_markdown_artifact(markdown(done), key="selection-summary", description="What the run did and chose")
    create_table_artifact(shown_rows(done.table()), key="selection", description=f"The first rows of {done.path()}")
    return done.summary
