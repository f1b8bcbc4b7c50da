"""The package Great Expectations, imported when a first table is validated, and kept quiet.

Its import takes seconds; a context draws progress bars. It changes Python's warning filters, which belong to the whole
process: one thread silences the others, and two that enter and leave `warnings.catch_warnings` in turn leave each
other's filters behind. It hides the later warnings of the process behind a logger as well. While a thread is quiet, a
filter that looks at the thread alone ignores its warnings, and its own changes to filters do nothing.
"""

import functools
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from selectllm.errors import MissingDependency


class _QuietThread(threading.local):
    """In a filter's place for a module's name: matches whatever a quiet thread does, and nothing else."""

    is_quiet = False

    def match(self, _module: str) -> bool:
        return self.is_quiet


_LOCK: Final = threading.RLock()
_thread: Final = _QuietThread()
_FILTER: Final[Any] = ("ignore", None, Warning, _thread, 0)
_CHANGING: Final[tuple[tuple[Any, str], ...]] = (
    (logging, "captureWarnings"),
    *((warnings, name) for name in ("simplefilter", "filterwarnings", "resetwarnings")),
    *((warnings.catch_warnings, name) for name in ("__enter__", "__exit__")),
)
"""What changes the filters: whose attribute, and its name."""


SWITCH_INTERVAL: Final = 0.001
"""Seconds after which another thread gets Python's lock during the import."""


@contextmanager
def quiet() -> Iterator[None]:
    """Make this thread quiet: its warnings are ignored, and those of all other threads are as they would be without it.

    One thread at a time can be quiet; others wait. It can be entered again within itself.
    """
    with _LOCK, ExitStack() as restore:
        if not _thread.is_quiet:
            for owner, name in _CHANGING:
                restore.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, _unless_quiet(getattr(owner, name)))
            restore.callback(_remove_filter)
            restore.callback(setattr, _thread, "is_quiet", False)
            _thread.is_quiet = True
            _add_filter()
        yield


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


def _unless_quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for threads that are not quiet, and nothing for one that is: a block that records, records none."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if _thread.is_quiet:
            return []
        result = function(*arguments, **named)
        _add_filter()
        return result

    return call


def great_expectations(module: str = "") -> Any:
    """The package, or a module of it; raises MissingDependency without it."""
    if find_spec("great_expectations") is None:
        raise MissingDependency(
            "great-expectations", extra="quality", purpose="validation (which --no-validate leaves out)"
        )
    with quiet():
        _import_package()
        return import_module(f"great_expectations.{module}".rstrip("."))


@functools.cache
def _import_package() -> None:
    """Import the package so that other threads go on as fast as they can.

    Its import makes a million objects that stay: looking for garbage among them takes a fifth of the time. A thread
    that computes wants Python's lock for a moment after each operation, and by default waits 5 ms for it.
    """
    collects, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(min(interval, SWITCH_INTERVAL))
    try:
        import_module("great_expectations")
    finally:
        sys.setswitchinterval(interval)
        if collects:
            gc.enable()


def new_context(**config: Any) -> Any:
    """A context in memory, without progress bars and analytics.

    It becomes the current one of the whole process: make it and use it within `quiet`, which lets one thread at a time.
    """
    base = great_expectations("data_context.types.base")
    settings = base.DataContextConfig(
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
        **config,
    )
    return great_expectations().get_context(mode="ephemeral", project_config=settings)
