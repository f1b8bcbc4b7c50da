"""Runs the pieces of a step: in this process, or on workers of Dask or Ray."""

import logging
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from selectllm.errors import MissingDependency
from selectllm.execution import WorkItem
from tasks.settings import FlowSettings

Item = TypeVar("Item")
Result = TypeVar("Result")

TASK_OPTIONS: Final[dict[str, Any]] = {"cache_policy": NO_CACHE, "persist_result": False, "result_serializer": "json"}
"""Caching and results are our store's. What Prefect keeps even so, a failed task's error, is JSON and no pickle."""

PIECE_NAMES: Final = {
    "embed_shard": "embeddings-shard",
    "embed_elsewhere": "embeddings-shard",
    "rank_batch": "rankings-batch",
    "measure_shard": "likelihoods-shard",
}
"""The names of the pieces' tasks."""


class PrefectExecutor:
    """Runs each piece as a task run, by the runner that the flow's settings name."""

    def __init__(self, settings: FlowSettings) -> None:
        self._settings = settings

    @property
    def workers(self) -> int:
        """The number of worker processes."""
        return self._settings.workers if self.is_remote else 1

    @property
    def is_remote(self) -> bool:
        """Whether the pieces run in other processes."""
        return self._settings.runner != "threads"

    def map(
        self, function: Callable[[WorkItem[Item]], Result], items: Iterable[Item], shares: Sequence[int]
    ) -> Generator[Result, None, None]:
        """Yield each result when it is ready; see `selectllm.execution.Executor`.

        Raises MissingDependency without the runner's package.
        """
        piece = _piece_task(function)
        with _task_runner(self._settings) as runner:
            free, under_way = list(shares), dict[PrefectFuture[Any], int]()
            for item in items:
                share = free.pop(0)
                parameters = {"function": function, "item": WorkItem(item, share)}
                under_way[runner.submit(piece, parameters=parameters)] = share
                if not free:
                    done = next(as_completed(list(under_way)))
                    free.append(under_way.pop(done))
                    yield done.result()
            for done in as_completed(list(under_way)):
                yield done.result()


@task(**TASK_OPTIONS)
def run_piece(function: Callable[[WorkItem[Any]], Any], item: WorkItem[Any]) -> Any:
    """Run a piece of a step. Its results are durable before it returns, so an interrupted piece loses nothing."""
    return function(item)


def _piece_task(function: Callable[..., Any]) -> Task[Any, Any]:
    inner = function.func if isinstance(function, partial) else function
    return run_piece.with_options(name=PIECE_NAMES[inner.__name__])


def _task_runner(settings: FlowSettings) -> TaskRunner[Any]:
    if settings.runner == "threads":  # one worker: each piece already uses all cores
        return ThreadPoolTaskRunner(max_workers=1)
    try:
        runner: TaskRunner[Any] = _dask(settings) if settings.runner == "dask" else _ray(settings)
    except ImportError as error:
        raise MissingDependency(
            f"prefect-{settings.runner}", extra=settings.runner, purpose=f"--runner {settings.runner}"
        ) from error
    return runner


def _dask(settings: FlowSettings) -> Any:
    from prefect_dask import DaskTaskRunner

    if settings.runner_address:
        return DaskTaskRunner(address=settings.runner_address)
    cluster = {
        "n_workers": settings.workers,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": ":0",  # any free port: another cluster may use the default port
        "silence_logs": logging.ERROR,
    }
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(settings: FlowSettings) -> Any:
    from prefect_ray import RayTaskRunner

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.runner_address:
        return RayTaskRunner(address=settings.runner_address)
    cluster = {"num_cpus": settings.workers, "include_dashboard": False, "log_to_driver": False}
    return RayTaskRunner(init_kwargs=cluster)
