"""Where pieces of a step run: in threads of this process, or on the workers of Dask or Ray."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from prefect import Task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from selectllm.errors import MissingDependency
from selectllm.settings import RunSettings

T = TypeVar("T")

AHEAD: Final = 2
"""Pieces given to each worker at a time: one to work on, one to go on with. More would only fill its memory."""


class Piece(Generic[T]):
    """A piece of work on its way to a worker. Prefect looks for futures in all collections: this is none to it."""

    def __init__(self, work: T) -> None:
        self.work = work


@contextmanager
def pieces_runner(run: RunSettings) -> Iterator[Callable[[Task[Any, Any], Iterable[Any]], Iterator[Any]]]:
    """A function that has a task run over pieces of work, on whatever the run's settings name, and yields its results.

    Results come in the pieces' order. No more than `AHEAD` pieces a worker are under way: what is to come need not
    exist yet. Raises MissingDependency without the runner's package.
    """
    workers = 1 if run.runner == "threads" else run.workers
    with _runner(run) as runner:

        def over(task: Task[Any, Any], pieces: Iterable[Any]) -> Iterator[Any]:
            under_way: list[Any] = []
            for piece in pieces:
                under_way.append(runner.submit(task, parameters={"run": run, "piece": Piece(piece)}))
                if len(under_way) >= AHEAD * workers:
                    yield under_way.pop(0).result()
            while under_way:
                yield under_way.pop(0).result()

        yield over


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
