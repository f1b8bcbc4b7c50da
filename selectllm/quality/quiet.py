"""Keeps the warnings of one thread, and what it does to Python's warning filters, to that thread.

Python's filters belong to the whole process: `warnings.catch_warnings` in one thread silences the others, and two
threads that enter and leave it in turn leave each other's filters behind. Great Expectations and what it imports do
both, and hide the later warnings of the process behind a logger as well. While a thread is quiet, a filter that looks
at the thread alone ignores its warnings, and its own changes to filters do nothing.
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
            for owner, name, replacement in _replacements():
                restore.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, replacement)
            restore.callback(_remove_filter)
            restore.callback(setattr, _thread, "is_quiet", False)
            _thread.is_quiet = True
            _add_filter()
        yield


def _is_quiet() -> bool:
    return getattr(_thread, "is_quiet", False)


def _add_filter() -> None:
    """Put our filter before all others, where it must be to count.

    Another thread that has just put a filter of its own in front shows a warning of the quiet thread if one comes in
    between, which is the least harm: its own warnings are never lost.
    """
    filters: Any = warnings.filters
    if not filters or filters[0] is not _FILTER:
        filters.insert(0, _FILTER)


def _remove_filter() -> None:
    """Remove our filter; a list that another thread puts back later may still hold it, and then it matches nothing."""
    filters: Any = warnings.filters
    while _FILTER in filters:
        filters.remove(_FILTER)


def _replacements() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """What is replaced while a thread is quiet: whose attribute, its name, and what it becomes."""
    yield logging, "captureWarnings", _unless_quiet(logging.captureWarnings)
    for name in ("simplefilter", "filterwarnings", "resetwarnings"):
        yield warnings, name, _unless_quiet(getattr(warnings, name), after=_add_filter)
    block = warnings.catch_warnings
    yield block, "__enter__", _unless_quiet(block.__enter__, list)  # a quiet block that records, records nothing
    yield block, "__exit__", _unless_quiet(block.__exit__, after=_add_filter)


def _unless_quiet(
    function: Callable[..., Any], otherwise: Callable[[], Any] = bool, after: Callable[[], Any] = bool
) -> Callable[..., Any]:
    """The function, followed by `after`, for threads that are not quiet; for one that is, what `otherwise` gives."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if _is_quiet():
            return otherwise()
        result = function(*arguments, **named)
        after()
        return result

    return call
