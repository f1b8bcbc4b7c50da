"""The model puts the rows of one level in order, where the budget takes some of them and not others."""

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.models import ModelCard
from selectllm.settings import RunSettings
from selectllm.steps import Made
from selectllm.store import Store
from tasks.progress import async_progress
from tasks.states import OURS, state_of


@task(name="tournament", **OURS)
async def play(
    run: RunSettings, card: ModelCard, pool: Made, rankings: Made, excluded: Made | None
) -> Made | State[Made] | None:
    """Play the tournament of the level that the budget cuts; nothing to do where it cuts none."""
    store = Store(run.store)
    async with async_progress("tournament-progress", "Questions answered") as tell:
        made = await steps.play(store, run, card, pool, rankings, excluded, tell)
    return made and state_of(store, made)
