"""The pool's file becomes a table, and some of its rows may be out of the choice."""

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.report.result import check_folders
from selectllm.settings import RunSettings
from selectllm.steps import StepResult
from selectllm.store import Store
from tasks.states import TASK_OPTIONS, as_cached_state


@task(name="pool", **TASK_OPTIONS)
def read_pool(run: RunSettings) -> StepResult | State[StepResult]:
    """Read the pool: distinct usable rows, and a quarantine of the others with their reasons."""
    check_folders(run)
    store = Store(run.store)
    return as_cached_state(store, steps.read_pool(store, run))


@task(name="excluded", **TASK_OPTIONS)
def exclude(run: RunSettings, pool: StepResult) -> StepResult | State[StepResult] | None:
    """Gather the rows that may not be chosen: those that files name, and those that the history's runs chose."""
    store = Store(run.store)
    made = steps.exclude(store, run, pool)
    return made and as_cached_state(store, made)
