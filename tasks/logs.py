"""What Prefect logs of errors: ours say in one line what is wrong and what to do, so they need no traceback."""

import logging
from typing import Final

from prefect.exceptions import ParameterTypeError

from selectllm.errors import SelectLLMError

LOGGERS: Final = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")
"""Prefect's loggers of runs, and that of the process that a worker starts for a run."""


def hide_own_tracebacks() -> None:
    """Log our own errors, and parameters that are not allowed, without a traceback; those of other errors stay.

    It acts on this process. The module of a flow calls it when it is imported, because Prefect checks the parameters
    before it calls the flow. The flow calls it too, because another process may have it in pickled form.
    """
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_without_own)
    logging.getLogger("prefect.flows").addFilter(_is_no_dump)


def hide_all_tracebacks() -> None:
    """Log no traceback, in this process: for a command line, which keeps those of unexpected errors in a file."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_without_any)


def _without_own(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], (SelectLLMError, ParameterTypeError)):
        record.exc_info, record.exc_text = None, None
    return True


def _is_no_dump(record: logging.LogRecord) -> bool:
    """Whether a record is not Prefect's dump of all parameters. They may hold passwords."""
    return not record.getMessage().startswith("Parameter validation failed for flow")


def _without_any(record: logging.LogRecord) -> bool:
    record.exc_info, record.exc_text = None, None
    return True
