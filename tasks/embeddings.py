"""Every row becomes a vector."""

from collections.abc import Iterable, Iterator

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.settings import RunSettings
from selectllm.steps import Shard, StepResult
from selectllm.store import Store
from tasks.progress import progress
from tasks.runners import WorkItem, pieces_runner, some_each
from tasks.states import TASK_OPTIONS, as_cached_state


@task(name="embeddings", **TASK_OPTIONS)
def embed(run: RunSettings, pool: StepResult) -> StepResult | State[StepResult]:
    """Embed every row of the pool, shard by shard, each a task run of its own."""

    def in_tasks(shards: Iterable[Shard]) -> Iterator[int]:
        with pieces_runner(run) as over:
            yield from over(embed_shard, shards, some_each(run))

    store = Store(run.store)
    with progress("embeddings-progress", "Rows embedded") as tell:
        made = steps.embed(store, run, pool, tell, in_tasks)
    return as_cached_state(store, made)


@task(name="embeddings-shard", **TASK_OPTIONS)
def embed_shard(run: RunSettings, piece: WorkItem[Shard]) -> int:
    """Embed the rows of a shard; its Parquet is kept before it counts, so that a shard is never embedded twice."""
    return steps.embed_shard(run, piece.work)
