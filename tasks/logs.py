"""What Prefect logs of errors: ours say in one line what is wrong and what to do, so they need no traceback."""

import logging
from typing import Final

from selectllm.errors import SelectLLMError

LOGGERS: Final = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")
"""Prefect's loggers of runs, and that of the process that a worker starts for a run."""


def hide_own_tracebacks() -> None:
    """Log our own errors without a traceback, in this process; those of other errors stay."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_without_own)


def hide_all_tracebacks() -> None:
    """Log no traceback, in this process: for a command line, which keeps those of unexpected errors in a file."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_without_any)


def _without_own(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], SelectLLMError):
        record.exc_info, record.exc_text = None, None
    return True


def _without_any(record: logging.LogRecord) -> bool:
    record.exc_info, record.exc_text = None, None
    return True
