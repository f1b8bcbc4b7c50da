"""The pool is divided into queries."""

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.settings import RunSettings
from selectllm.steps import StepResult
from selectllm.store import Store
from tasks.states import TASK_OPTIONS, as_cached_state


@task(name="queries", **TASK_OPTIONS)
def divide(run: RunSettings, pool: StepResult, vectors: StepResult) -> StepResult | State[StepResult]:
    """Divide the pool into small queries, each to be ranked at once."""
    store = Store(run.store)
    return as_cached_state(store, steps.divide(store, run, pool, vectors))
