"""Where pieces of a step run: in threads of this process, or on the workers of Dask or Ray."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from prefect import Task
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from selectllm.errors import MissingDependency
from selectllm.settings import RunSettings

T = TypeVar("T")

AHEAD: Final = 2
"""Pieces given to each worker at a time: one to work on, one to go on with. More would only fill its memory."""

Over = Callable[[Task[Any, Any], Iterable[Any], Sequence[int]], Iterator[Any]]
"""Has a task run over pieces of work, and yields its results as they come. Each piece under way has one of the shares
of something to itself; no more pieces are under way than there are shares, and what is to come need not exist yet."""


class WorkItem(Generic[T]):
    """A piece of work on its way to a worker. Prefect looks for futures in all collections: this is none to it."""

    def __init__(self, work: T, share: int = 1) -> None:
        self.work, self.share = work, share


@contextmanager
def pieces_runner(run: RunSettings) -> Iterator[Over]:
    """A function that has a task run over pieces of work, on whatever the run's settings name.

    Raises MissingDependency without the runner's package.
    """
    with _runner(run) as runner:

        def over(task: Task[Any, Any], pieces: Iterable[Any], shares: Sequence[int]) -> Iterator[Any]:
            free, under_way = list(shares), dict[PrefectFuture[Any], int]()
            for piece in pieces:
                share = free.pop(0)
                future = runner.submit(task, parameters={"run": run, "piece": WorkItem(piece, share)})
                under_way[future] = share
                if not free:
                    done = next(as_completed(list(under_way)))
                    free.append(under_way.pop(done))
                    yield done.result()
            for done in as_completed(list(under_way)):
                yield done.result()

        yield over


def some_each(run: RunSettings) -> Sequence[int]:
    """As many shares as pieces keep all workers busy, for work that has nothing to share."""
    return [1] * AHEAD * (1 if run.runner == "threads" else run.workers)


def of_concurrency(run: RunSettings) -> Sequence[int]:
    """The questions that may be under way at once, shared out: one piece a worker, and none that may ask nothing.

    Whoever has more room than was said, a large cluster for one, works on no more pieces than these.
    """
    pieces = min(run.workers, run.ranking.concurrency)
    each, more = divmod(run.ranking.concurrency, pieces)
    return [each + 1] * more + [each] * (pieces - more)


def _runner(run: RunSettings) -> TaskRunner[Any]:
    if run.runner == "threads":  # one: what the pieces do is spread over all cores already, or waits for a server
        return ThreadPoolTaskRunner(max_workers=1)
    try:
        return _dask(run) if run.runner == "dask" else _ray(run)
    except ImportError as error:
        raise MissingDependency(f"prefect-{run.runner}", extra=run.runner, purpose=f"--runner {run.runner}") from error


def _dask(run: RunSettings) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    if run.runner_address:
        return DaskTaskRunner(address=run.runner_address)
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": run.workers,
            "threads_per_worker": 1,
            "processes": True,
            "dashboard_address": ":0",  # any free port: another cluster may have the usual one
            "silence_logs": logging.ERROR,
        }
    )


def _ray(run: RunSettings) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if run.runner_address:
        return RayTaskRunner(address=run.runner_address)
    return RayTaskRunner(init_kwargs={"num_cpus": run.workers, "include_dashboard": False, "log_to_driver": False})
