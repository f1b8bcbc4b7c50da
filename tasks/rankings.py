"""The model is met, and ranks the candidates of each query."""

import asyncio
from collections.abc import Generator, Iterable, Sequence

from prefect import task
from prefect.states import State
from prefect.utilities.annotations import quote

from selectllm import steps
from selectllm.llm import ModelInfo
from selectllm.ranking import batches
from selectllm.ranking.batches import Ask, Query, Rank
from selectllm.settings import RunSettings
from selectllm.steps import Batch, Ranked, StepResult
from selectllm.store import Store
from tasks.keys import key_for
from tasks.progress import async_progress
from tasks.runners import WorkItem, of_concurrency, pieces_runner
from tasks.states import TASK_OPTIONS, as_cached_state


@task(name="selector", **TASK_OPTIONS)
async def check_model(run: RunSettings) -> ModelInfo:
    """Make sure that the model is there, before anything is computed for it."""
    return await steps.check_model(run)


@task(name="rankings", **TASK_OPTIONS)
async def rank(
    run: RunSettings, card: ModelInfo, pool: StepResult, queries: StepResult, excluded: StepResult | None
) -> StepResult | State[StepResult]:
    """Have the model rank every query, in batches, each a task run of its own."""
    in_window = batches.in_window(steps.most_at_once(run))

    async def in_tasks(ask: Ask, batches: Sequence[Sequence[Query]]) -> list[Rank]:
        async def as_task(batch: Sequence[Query]) -> list[Rank]:
            return await rank_batch(quote(ask), quote(batch))

        return await in_window(as_task, batches)

    def on_workers(batches: Iterable[Batch]) -> Generator[Ranked, None, None]:
        with pieces_runner(run) as over:
            yield from over(rank_piece, batches, of_concurrency(run))

    store = Store(run.store)
    elsewhere = None if run.runner == "threads" else on_workers
    async with async_progress("rankings-progress", "Questions answered") as tell:
        made = await steps.rank(store, run, card, pool, queries, excluded, tell, in_tasks, elsewhere)
    return as_cached_state(store, made)


@task(name="rankings-batch", **TASK_OPTIONS)
def rank_piece(run: RunSettings, piece: WorkItem[Batch]) -> Ranked:
    """Rank a batch of queries on a worker, which asks its share of the questions that may be under way at once.

    The worker may be another machine's: it gets the key itself, as the flow does.
    """
    mine = run.model_copy(update={"ranking": run.ranking.model_copy(update={"concurrency": piece.share})})
    with key_for(mine):
        return asyncio.run(steps.rank_batch(mine, piece.work))


@task(name="rankings-batch", **TASK_OPTIONS)
async def rank_batch(ask: Ask, batch: Sequence[Query]) -> list[Rank]:
    """Rank a batch of queries. Every reply is kept as it comes, so a batch that is cut off loses nothing."""
    return await ask(batch)
