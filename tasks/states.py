"""How a step's result is told to Prefect."""

from typing import Final

from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, State

from selectllm.steps import StepResult
from selectllm.store import Store

TASK_OPTIONS: Final = {"cache_policy": NO_CACHE, "persist_result": False, "result_serializer": "json"}
"""How every task leaves caching and results to our store. What Prefect keeps even so, the error of one that failed, is
then JSON, and no pickle."""


def as_cached_state(store: Store, made: StepResult) -> StepResult | State[StepResult]:
    """The result itself, or, when the store had it already, Prefect's own state `Cached` with it.

    Our store alone decides what is cached, so that what the library's door made counts here too. No result of
    Prefect's is written: the reference is small, and the artifact is where the store says.
    """
    kind, seconds = made.artifact.kind, made.seconds
    if made.cached:
        get_run_logger().info("%s: found whole at %s", kind, store.path(made.artifact))
        return Completed(name="Cached", data=made)
    get_run_logger().info("%s: made in %.1f s, %s", kind, seconds, store.path(made.artifact))
    return made
