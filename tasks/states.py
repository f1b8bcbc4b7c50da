"""The states that flow runs end in."""

from typing import TypeVar

from prefect.states import Completed

T = TypeVar("T")


def as_cached(result: T, *, is_cached: bool) -> T:
    """What a flow returns: its result, and where the store had all of it, Prefect's own state `Cached` with it.

    A flow that returns a state ends in it, and its caller gets the state's data.
    """
    return Completed(name="Cached", data=result) if is_cached else result  # type: ignore[return-value]
