"""The method, from a file of instructions to N chosen rows."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from selectllm import cancellation, steps
from selectllm.errors import UsageError
from selectllm.report.result import Result, check_folders, publish
from selectllm.settings import RunSettings
from selectllm.steps import Progress, quiet
from selectllm.store import Store
from selectllm.store.history import with_slot

T = TypeVar("T")


def select(run: RunSettings, tell: Progress = quiet) -> Result:
    """Choose `run.budget` rows of `run.pool`; what an earlier run made in the same store is not made again.

    `tell` hears of progress. Raises UsageError before anything is asked, RunError when the run cannot be finished.
    """
    if run.runner != "threads":
        raise UsageError(f"--runner {run.runner} is for the flow: python -m flows.selection")
    with cancellation.propagate_interrupt():
        return wait_for(_select(with_slot(run), tell))


async def _select(run: RunSettings, tell: Progress) -> Result:
    check_folders(run)
    store = Store(run.store)
    if before := steps.find_committed(store, run):
        return publish(store, run, *before)
    with steps.judging(store, run) as verdicts:
        pool = steps.read_pool(store, run)
        verdicts += [steps.validate(store, run, pool)]
        excluded = steps.exclude(store, run, pool)
        selector = await steps.check_model(run)
        vectors = steps.embed(store, run, pool, tell)
        verdicts += [steps.validate(store, run, vectors, pool)]
        queries = steps.divide(store, run, pool, vectors)
        ranks = await steps.rank(store, run, selector, pool, queries, excluded, tell)
        verdicts += [steps.validate(store, run, ranks, queries)]
        played = await steps.play(store, run, selector, pool, ranks, excluded, tell)
        chosen = steps.choose(store, run, pool, ranks, played, excluded)
    made = [pool, excluded, vectors, queries, ranks, played, chosen]
    return publish(store, run, selector, made, verdicts)


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where a loop is running already, as in a notebook; an interrupt stops it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(asyncio.run, work)
        with cancellation.propagate_interrupt():
            return done.result()
