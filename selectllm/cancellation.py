"""Stops a run that is under way, from a signal or another thread: what is not asked is not paid for.

A run may work in threads of its own, as a Prefect flow's tasks do, where an interrupt of the main thread is not heard.
They look here before each request and each slab of embeddings.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selectllm.errors import Stopped

_wanted = threading.Event()
_asking: asyncio.Task[Any] | None = None  # in the main thread, which is where signals are heard


def stop() -> None:
    """Have all runs of this process stop as soon as they can."""
    _wanted.set()


def reset() -> None:
    """Forget an earlier stop: a new run begins."""
    _wanted.clear()


@contextmanager
def propagate_interrupt() -> Iterator[None]:
    """Where an interrupt of whatever kind leaves this block, have other threads stop too; errors end a run anyway."""
    reset()
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            stop()
        raise


def raise_if_cancelled() -> None:
    """Raise Stopped when the run is to stop."""
    if _wanted.is_set():
        raise Stopped("stopped. What was made and paid for is kept: run the same again to go on from here")


def interrupt() -> None:
    """Stop, from a signal's handler: raises KeyboardInterrupt, but has the task that is asking cancelled.

    An interrupt in the midst of an event loop would hit whichever task is running, and leave the others in disorder.
    """
    stop()
    if _asking is None:
        raise KeyboardInterrupt
    _asking.get_loop().call_soon_threadsafe(_asking.cancel)


@contextmanager
def cancel_on_signal() -> Iterator[None]:
    """Let signals cancel the current task while it is in this block; raises Stopped when one has."""
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
