"""Thin Prefect tasks around `selectllm.steps`, one for each step; no arithmetic here."""

import logging
from contextlib import suppress

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger


class _RunLog(logging.Handler):
    """Passes what the library has to say on to the log of the task or flow run that it says it in."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(MissingContextError):  # not in a run
            get_run_logger().log(record.levelno, record.getMessage())


logging.getLogger("selectllm").addHandler(_RunLog(logging.INFO))
logging.getLogger("selectllm").setLevel(logging.INFO)
