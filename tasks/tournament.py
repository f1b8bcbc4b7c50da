"""The model puts the rows of one level in order, where the budget takes some of them and not others."""

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.llm import ModelInfo
from selectllm.settings import RunSettings
from selectllm.steps import StepResult
from selectllm.store import Store
from tasks.progress import async_progress
from tasks.states import TASK_OPTIONS, as_cached_state


@task(name="tournament", **TASK_OPTIONS)
async def play(
    run: RunSettings, card: ModelInfo, pool: StepResult, rankings: StepResult, excluded: StepResult | None
) -> StepResult | State[StepResult] | None:
    """Play the tournament of the level that the budget cuts; nothing to do where it cuts none."""
    store = Store(run.store)
    async with async_progress("tournament-progress", "Questions answered") as tell:
        made = await steps.play(store, run, card, pool, rankings, excluded, tell)
    return made and as_cached_state(store, made)
