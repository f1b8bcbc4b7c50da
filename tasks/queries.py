"""The pool is divided into queries."""

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.settings import RunSettings
from selectllm.steps import Made
from selectllm.store import Store
from tasks.states import OURS, state_of


@task(name="queries", **OURS)
def divide(run: RunSettings, pool: Made, vectors: Made) -> Made | State[Made]:
    """Divide the pool into small queries, each to be ranked at once."""
    store = Store(run.store)
    return state_of(store, steps.divide(store, run, pool, vectors))
