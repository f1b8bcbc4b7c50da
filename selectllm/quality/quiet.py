"""Keeps the warnings of one thread, and what it does to Python's warning filters, to that thread.

Python's filters belong to the whole process: `warnings.catch_warnings` in one thread silences the others, and two
threads that enter and leave it in turn leave each other's filters behind. Great Expectations and what it imports do
both, and hide the later warnings of the process behind a logger as well. While a thread is quiet it is ignored by a
filter that looks at the thread alone, and its own changes to filters do nothing.
"""

import functools
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

_LOCK: Final = threading.RLock()
_thread = threading.local()


class _QuietThread:
    """In a filter's place for a module's name: matches whatever a quiet thread does, and nothing else."""

    def match(self, _module: str) -> bool:
        return _is_quiet()


_FILTER: Final[Any] = ("ignore", None, Warning, _QuietThread(), 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Make this thread quiet: its warnings are ignored, and those of all other threads are as they would be without it.

    One thread at a time can be quiet; others wait. It can be entered again within itself.
    """
    with _LOCK, ExitStack() as restore:
        if not _is_quiet():
            for owner, name, changed in _changes():
                restore.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, changed)
            _thread.is_quiet = True
            restore.callback(setattr, _thread, "is_quiet", False)
            _add_filter()
        yield


def _is_quiet() -> bool:
    return getattr(_thread, "is_quiet", False)


def _add_filter() -> None:
    filters: Any = warnings.filters
    if not filters or filters[0] is not _FILTER:
        filters.insert(0, _FILTER)


def _changes() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """What is changed while a thread is quiet: whose attribute, its name, and what it becomes."""
    for owner, name in ((warnings, "simplefilter"), (warnings, "filterwarnings"), (logging, "captureWarnings")):
        yield owner, name, _unless_quiet(getattr(owner, name))
    block = warnings.catch_warnings
    yield block, "__enter__", _unless_quiet(block.__enter__, list)  # a quiet block that records, records nothing
    yield block, "__exit__", _unless_quiet(block.__exit__, after=_add_filter)  # it puts back filters without ours


def _unless_quiet(
    function: Callable[..., Any], otherwise: Callable[[], Any] = bool, after: Callable[[], None] | None = None
) -> Callable[..., Any]:
    """The function for threads that are not quiet; for one that is, what `otherwise` gives."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if _is_quiet():
            return otherwise()
        result = function(*arguments, **named)
        if after:
            after()
        return result

    return call
