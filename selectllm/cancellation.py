"""Cancels a run that is under way, from a signal or another thread: what is not asked is not paid for.

There is one token a process, since signals are the process's. A run may work in threads of its own, as a Prefect flow's
tasks do, where an interrupt of the main thread does not arrive. They look here before each request and each shard.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from selectllm.errors import Stopped

if TYPE_CHECKING:
    import asyncio

_cancelled = threading.Event()
_asking: "asyncio.Task[Any] | None" = None  # the main thread's task that asks a model, which a signal cancels


def cancel() -> None:
    """Have all runs of this process stop as soon as they can."""
    _cancelled.set()


def reset() -> None:
    """Forget an earlier cancellation: a new run begins."""
    _cancelled.clear()


def raise_if_cancelled() -> None:
    """Raise Stopped when the run is cancelled."""
    if _cancelled.is_set():
        raise Stopped("stopped. What was made and paid for is kept: run the same again to go on from here")


@contextmanager
def propagate_interrupt() -> Iterator[None]:
    """Cancel the work of other threads when an interrupt of any kind leaves this block; errors end a run anyway."""
    reset()
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            cancel()
        raise


def interrupt() -> None:
    """Cancel, from a signal's handler: raises KeyboardInterrupt, or cancels the task that asks a model."""
    cancel()
    if _asking is None:
        raise KeyboardInterrupt
    # An exception in the midst of a loop would end whichever task is running, and leave the others in disorder.
    _asking.get_loop().call_soon_threadsafe(_asking.cancel)


@contextmanager
def cancel_on_signal() -> Iterator[None]:
    """Let signals cancel the current task while it is in this block; raises Stopped when one has."""
    import asyncio  # only who asks a model needs it

    global _asking
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asking = asyncio.current_task()
    try:
        yield
    except asyncio.CancelledError:
        raise_if_cancelled()
        raise
    finally:
        _asking = None
