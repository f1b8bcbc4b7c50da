"""Every row becomes a vector."""

from collections.abc import Iterable, Iterator

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.settings import RunSettings
from selectllm.steps import Made, Shard
from selectllm.store import Store
from tasks.progress import progress
from tasks.runners import Piece, pieces_runner, some_each
from tasks.states import OURS, state_of


@task(name="embeddings", **OURS)
def embed(run: RunSettings, pool: Made) -> Made | State[Made]:
    """Embed every row of the pool, shard by shard, each a task run of its own."""

    def in_tasks(shards: Iterable[Shard]) -> Iterator[int]:
        with pieces_runner(run) as over:
            yield from over(embed_shard, shards, some_each(run))

    store = Store(run.store)
    with progress("embeddings-progress", "Rows embedded") as tell:
        made = steps.embed(store, run, pool, tell, in_tasks)
    return state_of(store, made)


@task(name="embeddings-shard", **OURS)
def embed_shard(run: RunSettings, piece: Piece[Shard]) -> int:
    """Embed the rows of a shard; its Parquet is kept before it counts, so that a shard is never embedded twice."""
    return steps.embed_shard(run, piece.work)
