"""The pool's file becomes a table, and some of its rows may be out of the choice."""

from prefect import task
from prefect.states import State

from selectllm import steps
from selectllm.result import check_folders
from selectllm.settings import RunSettings
from selectllm.steps import Made
from selectllm.store import Store
from tasks.states import OURS, state_of


@task(name="pool", **OURS)
def read_pool(run: RunSettings) -> Made | State[Made]:
    """Read the pool: distinct usable rows, and a quarantine of the others with their reasons."""
    check_folders(run)
    store = Store(run.store)
    return state_of(store, steps.read_pool(store, run))


@task(name="excluded", **OURS)
def exclude(run: RunSettings, pool: Made) -> Made | State[Made] | None:
    """Gather the rows that may not be chosen: those that files name, and those that the history's runs chose."""
    store = Store(run.store)
    made = steps.exclude(store, run, pool)
    return made and state_of(store, made)
